# The toolbox; `just --list` shows it.

# Everything that has to pass before a change is merged.
check:
    .ci/run

# Licences and advisories of the dependencies (needs cargo-deny).
deny:
    cargo deny check

# A longer search for counterexamples: `just soak 100000`.
soak seeds="20000":
    FLEETSIM_SEEDS={{seeds}} cargo test --release --test integration

# Every interleaving of the lock-free parts of the parallel executor (half a minute on two cores, once compiled).
loom:
    RUSTFLAGS="--cfg loom" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo test --release --lib --target-dir target/loom models

# Data races and undefined behaviour in the kernel, on tests that are short enough for an interpreter (needs a nightly
# toolchain with miri and rust-src; minutes). Others: `just miri kernel::parallel::tests::the_observer`.
miri *tests="kernel::activity kernel::asynchronous::books kernel::queue kernel::rng kernel::sequential::tests::a_panic kernel::sequential::tests::a_tandem":
    MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --lib --target-dir target/miri -- {{tests}}

# Data races on real threads, in the kernel, the readers and whole fleets (needs a nightly toolchain with rust-src; minutes).
# Others: `just tsan --test integration -- differential`.
tsan *args="--lib -- kernel:: io:: fleet:: experiment::":
    RUSTFLAGS=-Zsanitizer=thread cargo +nightly test -Zbuild-std --target $(rustc -vV | sed -n 's/^host: //p') \
        --target-dir target/tsan {{args}}

# Benchmarks; compares with the last run.
bench *args:
    cargo bench {{args}}

# Fuzz one target (needs cargo-fuzz and a nightly toolchain).
fuzz target="config" seconds="60":
    cd fuzz && cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

# Instructions of a run, function by function (needs valgrind).
profile *args:
    cargo build --release
    valgrind --tool=callgrind --callgrind-out-file=callgrind.out target/release/fleetsim run --quiet --out none {{args}}
    callgrind_annotate callgrind.out | head -60
