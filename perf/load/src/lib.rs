//! The load generator: a poller that drives bdevs and measures them.
