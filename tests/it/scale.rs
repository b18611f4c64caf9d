//! How much is tried: what fits beside the other tests, or, with `EZ_TEST_LONG` set (`make test-long`), much more.

/// How much the heavy tests do.
pub(crate) struct Scale {
    /// Orders in flight when parts are killed.
    pub(crate) storm_orders: usize,
    /// Orders in flight when everything is lost and restored.
    pub(crate) drill_orders: usize,
    /// Storms of each shape.
    pub(crate) storm_seeds: u64,
    /// Seeds simulated.
    pub(crate) simulation_seeds: u64,
    /// Steps of lives whose events are told in random order, number and shape; each life has five.
    pub(crate) money_runs: u64,
    /// Such steps while answers are lost and every part dies.
    pub(crate) deadly_runs: u64,
    /// Whether a life of years is looked at after each month, not only after those that matter.
    pub(crate) every_month: bool,
    /// Whether each event of a renewal is driven on before the next is told, not only told in order.
    pub(crate) one_by_one: bool,
}

fn is_long() -> bool {
    std::env::var_os("EZ_TEST_LONG").is_some_and(|set| !set.is_empty())
}

/// What repeats tests by their names, with the seeds (`3`, `1..=10`) that `variable` names, at the scale of this run.
pub(crate) fn repeat(variable: &str, seeds: &str, tests: &str) -> String {
    let long = if is_long() { "EZ_TEST_LONG=1 " } else { "" };
    format!("{long}{variable}={seeds} cargo test --locked --workspace --test it -- --ignored --nocapture {tests}")
}

/// What this run was asked for.
pub(crate) fn scale() -> Scale {
    if is_long() {
        Scale {
            storm_orders: 500,
            drill_orders: 150,
            storm_seeds: 10,
            simulation_seeds: 5_000,
            money_runs: 20_000,
            deadly_runs: 1_000,
            every_month: true,
            one_by_one: true,
        }
    } else {
        Scale {
            storm_orders: 100,
            drill_orders: 30,
            storm_seeds: 3,
            simulation_seeds: 100,
            money_runs: 500,
            deadly_runs: 50,
            every_month: false,
            one_by_one: false,
        }
    }
}

/// The seeds to run: the one, or those from the first to the last (`1..=10`), that `variable` names, to repeat them, or the
/// first `many`.
pub(crate) fn seeds(variable: &str, many: u64) -> Vec<u64> {
    let Ok(asked) = std::env::var(variable) else { return (1..=many).collect() };
    let seed = |word: &str| word.parse::<u64>().unwrap_or_else(|_| panic!("{variable} is no seed: {asked}"));
    match asked.split_once("..=") {
        Some((first, last)) => (seed(first)..=seed(last)).collect(),
        None => vec![seed(&asked)],
    }
}
