from shipway.engines.torchserve.worker_log import failure_reason

LOG = """\
2026-01-01T00:00:00,000 [INFO ] W-9000-m_1.0-stdout MODEL_LOG - Torch worker started.
2026-01-01T00:00:00,000 [INFO ] W-9001-m_2.0-stdout MODEL_LOG - Traceback (most recent call last):
2026-01-01T00:00:00,000 [INFO ] W-9001-m_2.0-stdout MODEL_LOG -   File "entry.py", line 1, in <module>
2026-01-01T00:00:00,000 [INFO ] W-9001-m_2.0-stdout MODEL_LOG -     check()
2026-01-01T00:00:00,000 [INFO ] W-9001-m_2.0-stdout MODEL_LOG - shipway.errors.DigestMismatch: a.onnx differs
2026-01-01T00:00:00,000 [INFO ] W-9001-m_2.0-stdout MODEL_LOG - Traceback (most recent call last):
2026-01-01T00:00:00,000 [INFO ] W-9001-m_2.0-stdout MODEL_LOG - RuntimeError: 500 - Unknown exception
"""  # noqa: E501


def test_the_reason_of_a_failure_is_the_exception_not_what_torchserve_made_of_it():
    assert failure_reason(LOG, "m", "2.0") == "DigestMismatch: a.onnx differs"


def test_another_versions_lines_are_no_reason():
    assert failure_reason(LOG, "m", "1.0") is None
    assert failure_reason(LOG, "m", "2.00") is None
