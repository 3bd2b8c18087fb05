//! Pictures of a run: charts in one SVG, drawn by hand and self-contained.
//!
//! ```text
//! figures  what a run has to show, as charts      chart  axes, grid, lines, legend of one chart
//! axis     scales with round ticks and units      page   title, charts below each other, HTML
//! ```

mod axis;
mod chart;
mod figures;
mod page;

pub(crate) use figures::{backlog, churn, ladder, load};
pub(crate) use page::Page;
