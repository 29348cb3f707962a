"""Strict settings of JAX for every test: no silent promotion, no reused key, several devices."""

import gc
import os

os.environ.setdefault("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config):
    """Make compilation faster, which takes most of the time of the tests.

    `make parity` compiles with the settings of users, and so do the longer tests of numerics.
    """
    # Programs run for a moment. Without optimization a third less time is needed in all. The flags
    # of the caller come last and win.
    os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ['XLA_FLAGS']}"
    # The older code generator takes two thirds of the time.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
    # Splitting small programs does not pay.
    os.environ["XLA_FLAGS"] += " --xla_cpu_parallel_codegen_split_count=1"
    # Compiled programs are shared by all tests and by later runs, unless without a cache.
    if config.pluginmanager.hasplugin("cacheprovider"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # Tracing makes many objects, of which few are in cycles; this saves a tenth of the time.
    gc.set_threshold(100_000, 20, 100)


@pytest.fixture
def compilation_cache():
    """The variables by which another process shares the compiled programs of the tests."""
    options = {
        "jax_compilation_cache_dir": jax.config.jax_compilation_cache_dir,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    return {name.upper(): str(value) for name, value in options.items() if value is not None}


@pytest.fixture
def x64():
    """Enable 64-bit numbers."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def quick_collection():
    """Leave the objects of earlier tests out of `gc.collect`, which may be millions."""
    gc.freeze()
    yield
    gc.unfreeze()
