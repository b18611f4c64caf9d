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
    /// Scenarios of money whose events are told in random order, number and shape.
    pub(crate) money_runs: u64,
    /// Such scenarios while answers are lost and every part dies.
    pub(crate) deadly_runs: u64,
}

/// What this run was asked for.
pub(crate) fn scale() -> Scale {
    if std::env::var_os("EZ_TEST_LONG").is_some_and(|set| !set.is_empty()) {
        Scale {
            storm_orders: 500,
            drill_orders: 150,
            storm_seeds: 10,
            simulation_seeds: 5_000,
            money_runs: 20_000,
            deadly_runs: 1_000,
        }
    } else {
        Scale {
            storm_orders: 100,
            drill_orders: 30,
            storm_seeds: 3,
            simulation_seeds: 100,
            money_runs: 500,
            deadly_runs: 50,
        }
    }
}

/// The seeds to run: the one that `variable` names, to repeat it, or the first `many`.
pub(crate) fn seeds(variable: &str, many: u64) -> Vec<u64> {
    match std::env::var(variable) {
        Ok(one) => vec![one.parse().unwrap_or_else(|_| panic!("{variable} is no seed: {one}"))],
        Err(_) => (1..=many).collect(),
    }
}
