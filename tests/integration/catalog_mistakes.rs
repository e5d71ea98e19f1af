//! What is said about models, GPUs and pools that cannot be.

use std::fs;

use crate::catalog::{POOLS, resolve};
use crate::cli::{run, text};

/// What is set, and what is said about it.
const MISTAKES: [(&[&str], &str); 23] = [
    (
        &["engine.model=qwen3-23b", "engine.gpu=h200_sxm"],
        "--set engine.model=qwen3-23b: engine.model is \"qwen3-23b\", but has to be one of \
         deepseek-v3, deepseek-v3.1-nvfp4, gpt-oss-120b, llama-3.1-70b-fp8, llama-3.1-8b, \
         minimax-m2.5-fp8, qwen3-235b-a22b-fp8, qwen3-32b, or a name with a section [models.NAME]; \
         did you mean qwen3-32b?",
    ),
    (
        &["engine.model=qwen3-32b", "engine.gpu=h20_sxm"],
        "engine.gpu is \"h20_sxm\", but has to be one of a100_sxm, b200_sxm, gb200, h100_sxm, \
         h200_sxm, l40s, or a name with a section [gpus.NAME]; did you mean h200_sxm?",
    ),
    (
        &["engine.model=qwen3-32b"],
        "engine.model is \"qwen3-32b\", so engine.gpu has to be set as well",
    ),
    (
        &["engine.backend=vlm"],
        "engine.backend is \"vlm\", but has to be one of vllm, sglang, trtllm; did you mean vllm?",
    ),
    (
        &["engine.model=qwen3-32b", "engine.gpu=h200_sxm", "engine.tp=3"],
        "engine.tp is 3, but has to be a divisor of the 64 attention heads of qwen3-32b",
    ),
    (
        &["engine.model=deepseek-v3", "engine.gpu=h100_sxm", "engine.tp=8"],
        "engine.model is \"deepseek-v3\", which does not fit on 8 x h100_sxm with \
         engine.gpu_memory_utilization 0.9 and passes of 8192 tokens: 21.1 GiB are missing on every \
         GPU; engine.tp = 16 would fit",
    ),
    (&["engine.model=qwen3-32b", "engine.gpu=l40s"], "engine.tp = 2 would fit"),
    (
        &["engine.model=deepseek-v3", "engine.gpu=h100_sxm", "engine.tp=2", "engine.pp=2"],
        "which does not fit on 4 x h100_sxm (TP 2, PP 2) with engine.gpu_memory_utilization 0.9 and \
         passes of 8192 tokens: ",
    ),
    (
        &["engine.model=deepseek-v3", "engine.gpu=h100_sxm", "engine.tp=2", "engine.pp=2"],
        "; engine.tp = 8 would fit, on 16 x h100_sxm (TP 8, PP 2)",
    ),
    (
        &["engine.model=qwen3-32b", "engine.gpu=h200_sxm", "engine.gpu_memory_utilization=0.01"],
        "no larger engine.tp would help",
    ),
    (
        &["engine.pp=2"],
        "engine.pp is 2, which needs engine.model, engine.gpu and a timing.model of",
    ),
    (
        &["engine.model=qwen3-32b", "engine.gpu=h200_sxm", "engine.pp=65"],
        "engine.pp is 65, but qwen3-32b has only 64 layers",
    ),
    (
        &["engine.model=qwen3-32b", "engine.gpu=h200_sxm", "engine.attention_dp=2"],
        "engine.attention_dp is 2, but qwen3-32b has no experts that the ranks could share",
    ),
    (
        &[
            "engine.model=qwen3-32b",
            "engine.gpu=h200_sxm",
            "engine.pp=2",
            "timing.model=polynomial",
        ],
        "other pass times say nothing about parts of a batch",
    ),
    (
        &[
            "engine.model=qwen3-32b",
            "engine.gpu=h200_sxm",
            "engine.tp=2",
            "engine.pp=2",
            "fleet.gpus_per_worker=2",
        ],
        "fleet.gpus_per_worker is 2, but engine.tp, pp and attention_dp make it 4: leave it out",
    ),
    (&["timing.model=measured"], "timing.model needs engine.model and engine.gpu"),
    (
        &[
            "engine.model=qwen3-32b",
            "engine.gpu=h200_sxm",
            "engine.tp=2",
            "fleet.gpus_per_worker=4",
        ],
        "fleet.gpus_per_worker is 4, but engine.tp makes it 2: leave it out",
    ),
    (
        &["engine.gpu_memory_utilization=1.5"],
        "engine.gpu_memory_utilization is 1.5, but has to be a number above 0 and up to 1",
    ),
    (
        &["gpus.abacus.memory_bytes=1000"],
        "--set gpus.abacus.memory_bytes=1000: gpus.abacus lacks memory_gb_s, and the catalog has no \
         entry to take it from",
    ),
    (
        &["gpus.h200_sxm.memory_gb_s=0.0"],
        "gpus.h200_sxm.memory_gb_s is 0.0, but has to be a number above 0 and up to 10^9",
    ),
    (
        &["models.\"deepseek-v3\".active_experts=256"],
        "active_experts is 256, but has to be a whole number below experts",
    ),
    (
        &["models.\"llama-3.1-8b\".layer=3"],
        "unknown key models.\"llama-3.1-8b\".layer; did you mean models.\"llama-3.1-8b\".layers?",
    ),
    (&["timing.prefill=0s"], "timing.prefill is \"0s\", but has to be a time above 0"),
];

#[test]
fn mistakes_name_the_key_and_what_would_be_right() {
    for (set, expected) in MISTAKES {
        let error = resolve(set).err().unwrap_or_else(|| panic!("accepted: {set:?}"));
        assert!(error.contains(expected), "{set:?}: {error}");
    }
}

#[test]
fn mistakes_in_pools_get_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let queue = "[router]\npolicy = \"kv\"\nrouter_queue_threshold = 1.0\n[engine]";
    let threshold = POOLS.replace("[engine]", queue);
    let alike = threshold.replace("tp = 4", "tp = 4\npp = 2\nmax_num_batched_tokens = 4096");
    fs::write(folder.path().join("x.toml"), &alike).unwrap();
    let output = run(folder.path(), &["run", "-q", "-c", "x.toml", "--out", "none"]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let cases = [
        (POOLS.replace("tp = 4", "tp = 3"), "x.toml:13:6: pools.a.engine.tp is 3, but has to be a"),
        (
            POOLS.replace("tp = 4", "tp = \"4\""),
            "x.toml:13:6: pools.a.engine.tp is \"4\", but has to be a",
        ),
        (
            POOLS.replace("gpu = \"h100_sxm\"", "gup = \"h100_sxm\""),
            "x.toml:12:1: unknown key pools.a.engine.gup; did you mean pools.a.engine.gpu?",
        ),
        (POOLS.replace("workers = 1", ""), "x.toml:9:1: pools.a needs a number of workers"),
        (
            POOLS.replace("workers = 1", "workers = 0"),
            "x.toml:10:11: pools.a.workers is 0, but has to be a whole number from 1 to 1048575",
        ),
        (
            POOLS.replace("tp = 4", "tp = 4\nblock_size = 16"),
            "engine.block_size is 64 in pool b, but 16 in pool a: a router counts in blocks of one",
        ),
        (
            POOLS.replace("tp = 4", "tp = 4\nmodel = \"llama-3.1-8b\""),
            "engine.model is \"qwen3-32b\", but pool a serves \"llama-3.1-8b\": a fleet serves one",
        ),
        (
            threshold.replace("tp = 4", "tp = 4\nmax_num_batched_tokens = 4096"),
            "router.router_queue_threshold is a share of it",
        ),
        (
            threshold.replace("tp = 4", "tp = 4\npp = 2"),
            "engine.max_num_batched_tokens is 8192 in pool b, but 8192 x 2 in pool a: router",
        ),
        (
            POOLS.replace("workers = 1", "workers = 1048575"),
            "pools have 1048577 workers, more than 1048575",
        ),
    ];
    for (config, expected) in cases {
        fs::write(folder.path().join("x.toml"), &config).unwrap();
        let output = run(folder.path(), &["run", "-c", "x.toml", "--out", "none"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{expected}\n{stderr}\n{config}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
