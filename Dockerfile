# A server with the demo model. CPU by default; for CUDA:  docker build --build-arg EXTRA=gpu .
# Every step is a Makefile target, so that what builds here is what builds and is tested elsewhere.
FROM python:3.11-slim-bookworm

ARG EXTRA=cpu
ENV EXTRA=${EXTRA} PYTHONUNBUFFERED=1

# g++ compiles AOTInductor's candidates. Java comes from the lock file.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home shipway \
    && install --directory --owner shipway /shipway

USER shipway
WORKDIR /shipway
COPY --chown=shipway . .
RUN make env
RUN make model

# Addresses stay on loopback, so run it in the host's network: docker run --network host IMAGE
STOPSIGNAL SIGTERM
CMD ["make", "up"]
