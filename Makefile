# Every chore of this project. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# The lock file: cpu, or gpu after `make env EXTRA=gpu`.
EXTRA  ?= $(shell cat .venv/.extra 2> /dev/null || echo cpu)
UV     := .uv/bin/uv
BIN    := .venv/bin
SYNCED := .venv/.synced-$(EXTRA)

.PHONY: help env env-long demo demo-ray test test-long test-ray test-quiet test-wheel structure check serve up model format bench bench-stock bench-peers bench-front bench-observability \
	test-faults test-sabotage test-hostile soak soak-hostile fuzz watch check-monitoring check-plan lock clean
.DEFAULT_GOAL := help

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

env: $(SYNCED)  ## install the locked environment into .venv

# uv is not in .venv, since a sync removes from .venv what the lock file does not name.
$(UV): requirements/uv.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer is on the PATH. Install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed; $(PYTHON) is {v[0]}.{v[1]}. Name another: make PYTHON=/path/to/python3.11")'
	@echo "Fetching uv ..."
	@$(PYTHON) -m venv .uv || { echo "python -m venv failed; on Debian and Ubuntu it comes with the package python3-venv."; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	@touch $@

# Bytecode is compiled once, here: with PYTHONDONTWRITEBYTECODE set, as in many images, each process
# would compile what it imports, which takes 4 s for torch.
$(SYNCED): requirements/$(EXTRA).lock pyproject.toml $(UV)
	@echo "Installing requirements/$(EXTRA).lock into .venv (about 5 GB, most of it torch) ..."
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/$(EXTRA).lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation --offline --editable .
	@rm -f .venv/.synced-* && echo $(EXTRA) > .venv/.extra && touch $@

demo: env  ## export a pretrained model, serve it, send it a photo over HTTP and gRPC, stop
	@scripts/demo

MODEL := model_store/efficientnet_lite0-1.0.mar
TEXTS := model_store/minilm-1.0.mar

# Whole files go to one of several processes: the tests of a file share its server.
WORKERS ?= 2
test: env  ## every test but the long ones, the real server included (20 minutes)
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --durations 25

# A sample of each long study, with a time limit of its own. The studies themselves are targets too.
test-long: env-long model  ## the tests marked long, and a sample of the long studies: faults, sabotage, hostile requests, soak, fuzz (14 minutes)
	@echo "== tests marked long"
	@timeout --kill-after=30 900 $(BIN)/python -m pytest -m long
	@echo "== some of the faults"
	@timeout --kill-after=30 300 $(BIN)/python -m tests.faults --front on --every 8 --rounds 1 --times 3
	@echo "== some of the broken pipelines and unusual models"
	@timeout --kill-after=30 300 $(BIN)/python -m tests.sabotage --every 30
	@echo "== some of the requests that cost as much as they can"
	@timeout --kill-after=30 180 $(BIN)/python -m tests.hostile --images $(MODEL) --every 20
	@echo "== soak, 1 minute"
	@timeout --kill-after=30 240 $(BIN)/python -m benchmarks.soak --mar $(MODEL) --minutes 1 --out build/soak
	@echo "== fuzzing, 60 seconds"
	@$(MAKE) --no-print-directory fuzz-readers SECONDS=7
	@timeout --kill-after=30 120 $(BIN)/python -m tests.fuzz.fuzz_server 1500

test-ray: env-long  ## the tests of a Ray cluster (5 minutes)
	@$(BIN)/python -m pytest -m ray

test-quiet: env  ## the study of exports beside busy programs, on a machine that does nothing else (3 minutes)
	@$(BIN)/python -m pytest -m quiet

ONLY ?=
test-sabotage: env  ## broken pipelines, all refused; unusual models, all sealed and served (20 minutes)
	@$(BIN)/python -m tests.sabotage --only "$(ONLY)"

test-hostile: env model $(TEXTS)  ## 270 kinds of requests that cost as much as they can: neighbours, memory, workers (8 minutes)
	@$(BIN)/python -m tests.hostile --images $(MODEL) --texts $(TEXTS)

structure: env  ## list every import cycle, long function and missing docstring or test
	@$(BIN)/python scripts/structure --report --all

check: env  ## lint, check formatting and types, measure the structure
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/python scripts/structure

test-wheel: env  ## build the wheel, install it elsewhere, go from a new recipe to predictions
	@$(BIN)/python scripts/check_wheel.py

format: env  ## fix what ruff can fix, and format
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# The five usual formats. `shipway export efficientnet_lite0` without --only tries every technique.
CLASSIC := $(addprefix --only ,torchscript torch_export aot_inductor onnx_fp32 onnx_int8)
# For texts the other techniques were slower or less accurate on every host so far.
FOR_TEXTS := $(addprefix --only ,aot_inductor_bf16 torchao_dynamic_int8 onnx_fp32 onnx_int8 openvino_bf16)

model: $(MODEL)  ## export and package the demo model, unless its archive exists
$(MODEL): | $(SYNCED) artifacts/efficientnet_lite0-1.0
	@$(BIN)/shipway package artifacts/efficientnet_lite0-1.0

$(TEXTS): | $(SYNCED) artifacts/minilm-1.0
	@$(BIN)/shipway package artifacts/minilm-1.0

artifacts/efficientnet_lite0-1.0: | $(SYNCED)
	@$(BIN)/shipway export efficientnet_lite0 $(CLASSIC)

artifacts/tabular-1.0: | $(SYNCED)
	@$(BIN)/shipway export tabular --only onnx_fp32

artifacts/digits-1.0: | $(SYNCED)
	@$(BIN)/shipway export digits --only onnx_fp32

artifacts/minilm-1.0: | $(SYNCED)
	@$(BIN)/shipway export minilm $(FOR_TEXTS)

serve: env model  ## start a server with the demo model; `.venv/bin/shipway stop` ends it
	@if $(BIN)/shipway models > /dev/null 2>&1; \
	then echo "A server is already running here:" && $(BIN)/shipway models; \
	else $(BIN)/shipway serve --background --register $(MODEL); fi

up: env model  ## the same in the foreground, until Ctrl-C or SIGTERM
	@exec $(BIN)/shipway serve --register $(MODEL)

bench-stock: env artifacts/efficientnet_lite0-1.0 artifacts/minilm-1.0  ## compare our handlers with TorchServe's own
	@$(BIN)/python -m benchmarks.stock

bench: env model  ## load-test the demo model on a server of its own; the report is in reports/
	@$(BIN)/python -m benchmarks.demo $(MODEL)

bench-peers: env artifacts/efficientnet_lite0-1.0  ## compare with eight other model servers (25 minutes)
	@$(BIN)/python -m benchmarks.peers

bench-front: env artifacts/tabular-1.0 artifacts/digits-1.0 artifacts/minilm-1.0 artifacts/efficientnet_lite0-1.0  ## compare the front with TorchServe and other servers; needs wrk (30 minutes)
	@$(BIN)/python -m benchmarks.front

bench-observability: env artifacts/efficientnet_lite0-1.0  ## measure what metrics and traces cost
	@$(BIN)/python -m benchmarks.observability

check-plan: env artifacts/tabular-1.0  ## compare `shipway plan` with 1, 2 and 4 real servers; needs nginx (8 minutes)
	@$(BIN)/python -m benchmarks.capacity_check

test-faults: env  ## faults done to a real server under load: what is promised, what is measured
	@$(BIN)/python -m tests.faults --only "$(ONLY)"

MINUTES ?= 10
soak: env model  ## half of what the server can do for MINUTES=10: does anything fail, or grow?
	@$(BIN)/python -m benchmarks.soak --mar $(MODEL) --minutes $(MINUTES)

soak-hostile: env model  ## the same beside a client that is hostile for a tenth of the time
	@$(BIN)/python -m tests.hostile.soak --mar $(MODEL) --minutes $(MINUTES)

SECONDS ?= 60
fuzz: fuzz-readers  ## each reader for SECONDS=60, by coverage; 50,000 requests to a real server
	@$(BIN)/python -m tests.fuzz.fuzz_server 50000

.PHONY: fuzz-readers
fuzz-readers: env-long
	@$(BIN)/python -m tests.fuzz.corpus build/fuzz
	@for each in manifest archive oip; do PYTHONPATH=. $(BIN)/python tests/fuzz/fuzz_$$each.py -max_total_time=$(SECONDS) -artifact_prefix=build/fuzz/ build/fuzz/$$each || exit 1; done

# Ray and the fuzzer come beside what .venv has already; the next sync removes them again.
env-long: $(SYNCED) requirements/long.lock
	@$(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements/long.lock

demo-ray: env-long artifacts/efficientnet_lite0-1.0 artifacts/minilm-1.0  ## two Ray nodes on this machine: answers, a rollout, a lost node (4 minutes)
	@$(BIN)/python -m benchmarks.demo_ray

watch: env  ## run Prometheus with the rules and alerts of deploy/, until Ctrl-C
	@tools=$$(scripts/fetch-prometheus) && exec $$tools/prometheus --config.file=deploy/prometheus/prometheus.yml \
		--storage.tsdb.path=.tools/data --web.listen-address=127.0.0.1:9090 --enable-feature=exemplar-storage

check-monitoring: env artifacts/efficientnet_lite0-1.0  ## run every dashboard query under load, and make an alert fire (2 minutes)
	@$(BIN)/python -m benchmarks.monitoring

# Without the address of the package index, which differs from machine to machine.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock"

lock: $(UV)  ## resolve the lock files again
	@$(COMPILE) --universal requirements/uv.in -o requirements/uv.lock
	@$(COMPILE) --universal --extra dev pyproject.toml -o requirements/cpu.lock
	@$(COMPILE) --universal --extra dev --overrides requirements/gpu-overrides.txt pyproject.toml requirements/gpu.in -o requirements/gpu.lock
	@$(COMPILE) --universal --constraint requirements/cpu.lock requirements/long.in -o requirements/long.lock
	@$(COMPILE) requirements/kserve.in -o requirements/kserve.lock
	@for each in benchmarks/peers/requirements/*.in; do $(COMPILE) $$each -o $${each%.in}.txt || exit 1; done

clean:  ## delete everything that was made here, the environment too
	rm -rf .venv .uv .tools .peers .shipway artifacts reports build dist *.egg-info model_store/*.mar model_store/*.mar.sig model_store/*.tuned.json
