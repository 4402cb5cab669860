"""Measure the machine: processor, memory, disk, GPU, under the names that MLflow's page knows."""

from __future__ import annotations

from pathlib import Path

import psutil


def system_metrics(folder: str | Path = ".") -> dict[str, float]:
    """Measure now; processor use is the mean since the last call of this process.

    Returns:
        `system/...` names of the metric table; those of a GPU only where nvidia-ml-py finds one.
    """
    memory = psutil.virtual_memory()
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
        "system/disk_usage_percentage": psutil.disk_usage(str(folder)).percent,
        **_gpu_metrics(),
    }


def _gpu_metrics() -> dict[str, float]:
    """Use and memory of the first GPU; nothing without the optional nvidia-ml-py."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return {}
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return {
            "system/gpu_0_utilization_percentage": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "system/gpu_0_memory_usage_megabytes": pynvml.nvmlDeviceGetMemoryInfo(handle).used
            / 1e6,
        }
    except pynvml.NVMLError:  # the library is there, the device is not
        return {}
