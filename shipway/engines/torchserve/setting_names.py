"""The names of all settings, so that a misspelt one is not ignored: it may be a safeguard."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from shipway.engines.errors import ConfigError

OURS = frozenset(
    {
        "allow_management_beyond_loopback",
        "exporter_address",
        "front",
        "require_signature",
        "trusted_keys",
    }
)
"""TorchServe does not know these."""
TORCHSERVES = frozenset(
    [
        "allowed_urls",
        "async_logging",
        "blacklist_env_vars",
        "certificate_file",
        "cors_allowed_headers",
        "cors_allowed_methods",
        "cors_allowed_origin",
        "cpp_log_config",
        "cpu_launcher_args",
        "cpu_launcher_enable",
        "debug",
        "decode_input_request",
        "default_response_timeout",
        "default_service_handler",
        "default_startup_timeout",
        "default_workers_per_model",
        "disable_system_metrics",
        "disable_token_authorization",
        "enable_envvars_config",
        "enable_grpc_ssl",
        "enable_metrics_api",
        "enable_model_api",
        "grpc_inference_address",
        "grpc_inference_max_connection_age_grace_ms",
        "grpc_inference_max_connection_age_ms",
        "grpc_inference_port",
        "grpc_management_address",
        "grpc_management_max_connection_age_grace_ms",
        "grpc_management_max_connection_age_ms",
        "grpc_management_port",
        "inference_address",
        "initial_distribution_port",
        "initial_worker_port",
        "install_py_dep_per_model",
        "io_ratio",
        "ipex_enable",
        "ipex_gpu_enable",
        "job_queue_size",
        "keystore",
        "keystore_pass",
        "keystore_type",
        "limit_max_image_pixels",
        "load_models",
        "management_address",
        "max_request_size",
        "max_response_size",
        "metric_time_interval",
        "metrics_address",
        "metrics_config",
        "metrics_mode",
        "model_metrics_auto_detect",
        "model_snapshot",
        "model_store",
        "models",
        "netty_client_threads",
        "number_of_gpu",
        "number_of_netty_threads",
        "prefer_direct_buffer",
        "private_key_file",
        "service_envelope",
        "system_metrics_cmd",
        "token_expiration_min",
        "ts_header_key_sequence_end",
        "ts_header_key_sequence_id",
        "ts_header_key_sequence_start",
        "ts_open_inference_protocol",
        "unregister_model_timeout",
        "use_env_allowed_urls",
        "use_native_io",
        "vmargs",
        "workflow_store",
    ]
)
"""Those of its ConfigManager, and `vmargs` of its start script."""
LIKE = 0.85
"""From this ratio on (difflib) two names are taken for one and the same."""


def check_names(path: Path, names: Iterable[str]) -> None:
    """Raises ConfigError for a name that is nearly that of a setting. Others are left alone:
    plugins of TorchServe may read them."""
    known = OURS | TORCHSERVES
    for name in names:
        if name in known:
            continue
        if found := difflib.get_close_matches(name.lower(), known, n=1, cutoff=LIKE):
            raise ConfigError(
                f"{path}: {name} is not a setting, and would be ignored. Did you mean {found[0]}?"
            )
