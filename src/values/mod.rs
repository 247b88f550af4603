//! Values with a meaning of their own: how they are written in a configuration, on a command line or in the database, and how they are
//! shown.

pub mod duration;
pub mod percent;
pub mod plain;
pub mod positions;
pub mod scalar;
pub mod secret;
pub mod size;
pub mod text;
pub mod when;
