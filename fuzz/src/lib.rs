//! What the fuzz targets share: a world of two providers with fixed keys, and the rules that hold in it.
//!
//! Every input gives the same run again: keys and tokens are made beforehand (`examples/seeds.rs`), and nothing here
//! asks for the time or for a random number.

pub mod heads;
pub mod sequence;
#[path = "../../tests/engine/support.rs"]
pub mod support;
pub mod world;
