//! What the broker may run short of. While it does, connections that publish are not read.

/// The resources that are short now. The default is none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Alarms {
    /// The process takes more memory than `vm_memory_high_watermark` allows.
    pub memory: bool,
    /// The data directory's disk has less room than `disk_free_limit` demands.
    pub disk: bool,
}

impl Alarms {
    /// Whether any is on.
    #[inline]
    pub fn any(self) -> bool {
        self.memory || self.disk
    }

    /// What `connection.blocked` gives as the reason, in RabbitMQ's words; none without an alarm.
    pub fn reason(self) -> Option<&'static str> {
        match (self.memory, self.disk) {
            (false, false) => None,
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (true, true) => Some("low on memory & disk"),
        }
    }

    /// As a number that fits an atomic.
    pub fn to_bits(self) -> u8 {
        u8::from(self.memory) | u8::from(self.disk) << 1
    }

    /// The inverse of [`Alarms::to_bits`].
    pub fn from_bits(bits: u8) -> Self {
        Self {
            memory: bits & 1 != 0,
            disk: bits & 2 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_tell_the_four_states_apart() {
        for (memory, disk) in [(false, false), (true, false), (false, true), (true, true)] {
            let alarms = Alarms { memory, disk };
            assert_eq!(Alarms::from_bits(alarms.to_bits()), alarms);
            assert_eq!(alarms.any(), alarms.reason().is_some());
        }
    }
}
