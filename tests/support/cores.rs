//! The macro that runs a test with 1, 2 and 4 cores.

/// Each function becomes three tests, in the modules `on_1_core`, `on_2_cores` and `on_4_cores`.
macro_rules! on_each_core_count {
    ($($(#[$attribute:meta])* fn $name:ident($broker:ident: &Broker) $body:block)*) => {
        $($(#[$attribute])* fn $name($broker: &$crate::support::broker::Broker) $body)*

        mod on_1_core {
            $(#[test] fn $name() { super::$name(&$crate::support::broker::Broker::shared(1)); })*
        }
        mod on_2_cores {
            $(#[test] fn $name() { super::$name(&$crate::support::broker::Broker::shared(2)); })*
        }
        mod on_4_cores {
            $(#[test] fn $name() { super::$name(&$crate::support::broker::Broker::shared(4)); })*
        }
    };
}

pub(crate) use on_each_core_count;
