//! The memory of a request while its rows are made: it is requested before it is allocated.

use std::fmt;

/// Memory for the work on one request: some is reserved, and more can be requested.
pub struct Space<'a> {
    left: usize,
    more: Option<&'a mut dyn FnMut(usize) -> bool>,
}

/// There is no more memory for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no more memory for the request")]
pub struct NoSpace;

impl<'a> Space<'a> {
    /// `reserved` bytes, and as many as `more` grants when it is called with the number of missing bytes.
    pub fn new(reserved: usize, more: &'a mut dyn FnMut(usize) -> bool) -> Self {
        Self { left: reserved, more: Some(more) }
    }

    /// None at all.
    pub fn none() -> Self {
        Self { left: 0, more: None }
    }

    /// Any amount.
    pub fn unlimited() -> Self {
        Self { left: usize::MAX / 2, more: None }
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    ///
    /// The bytes are not granted. Nothing is taken then.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), NoSpace> {
        if let Some(missing) = bytes.checked_sub(self.left).filter(|missing| *missing > 0) {
            let granted = self.more.as_mut().is_some_and(|more| more(missing));
            if !granted {
                return Err(NoSpace);
            }
            self.left = bytes;
        }
        self.left -= bytes;
        Ok(())
    }

    /// Returns `bytes` that were taken.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.left += bytes;
    }

    /// The bytes that can be taken without a request.
    pub(super) fn left(&self) -> usize {
        self.left
    }
}

impl fmt::Debug for Space<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_asked_for_only_where_less_is_left() {
        let mut asked = Vec::new();
        let mut more = |bytes| {
            asked.push(bytes);
            bytes < 100
        };
        let mut space = Space::new(10, &mut more);
        assert_eq!(space.take(10), Ok(()));
        assert_eq!(space.take(5), Ok(()));
        space.give_back(7);
        assert_eq!(space.take(20), Ok(()));
        assert_eq!(space.take(100), Err(NoSpace));
        assert_eq!(space.left(), 0, "what is refused is not taken");
        assert_eq!(asked, [5, 13, 100]);
        assert_eq!(Space::unlimited().take(1 << 40), Ok(()));
    }
}
