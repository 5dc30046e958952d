// SPDX-License-Identifier: GPL-2.0

//! The error of a test that the machine cannot run.

use std::fmt;

/// Ends a case without a verdict; the text is the reason.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}
