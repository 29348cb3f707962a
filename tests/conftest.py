"""JAX at its strictest for every test: no silent promotion, no key used twice, several devices."""

import gc
import os

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
)

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config):
    """Less time for compiling, which is what most of a test's time goes into; `make parity` compiles as users do."""
    os.environ["XLA_FLAGS"] += (
        " --xla_cpu_use_fusion_emitters=false"  # the older code generator: two thirds of the time
        " --xla_cpu_parallel_codegen_split_count=1"  # programs this small are not worth cutting up
    )
    # What one test has compiled serves every other, and the next run of the tests.
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    gc.set_threshold(
        100_000, 20, 100
    )  # tracing makes many objects, of which few are in cycles: a tenth of the time


@pytest.fixture
def x64():
    """64-bit numbers, where an oracle needs them."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)
