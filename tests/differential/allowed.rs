//! The differences that `COMPATIBILITY.md` lists, each under the id that it has there.

use crate::compare::Difference;
use crate::script::Step;

/// Recognizes a listed difference, told all steps up to the one that differs.
type Recognize = fn(&Difference, &[Step]) -> bool;

const ALLOWED: [(&str, Recognize); 0] = [];

/// The id under which a difference is listed.
pub(crate) fn id_of(difference: &Difference, steps: &[Step]) -> Option<&'static str> {
    let found = ALLOWED
        .iter()
        .find(|(_, recognize)| recognize(difference, steps));
    found.map(|(id, _)| *id)
}
