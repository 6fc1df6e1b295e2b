//! Sets of rules. Four words, every access to which has a constant or a masked index.

/// Rules of one table.
pub const RULES_MAX: usize = 256;

/// A set of rules, by their place in the order in which they apply.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bits(pub [u64; 4]);

impl Bits {
    pub const NONE: Bits = Bits([0; 4]);
    pub const ALL: Bits = Bits([u64::MAX; 4]);

    #[inline(always)]
    pub fn and(&self, other: &Bits) -> Bits {
        Bits([
            self.0[0] & other.0[0],
            self.0[1] & other.0[1],
            self.0[2] & other.0[2],
            self.0[3] & other.0[3],
        ])
    }

    #[inline(always)]
    pub fn or(&self, other: &Bits) -> Bits {
        Bits([
            self.0[0] | other.0[0],
            self.0[1] | other.0[1],
            self.0[2] | other.0[2],
            self.0[3] | other.0[3],
        ])
    }

    #[inline(always)]
    pub fn keep(&mut self, other: &Bits) {
        self.0[0] &= other.0[0];
        self.0[1] &= other.0[1];
        self.0[2] &= other.0[2];
        self.0[3] &= other.0[3];
    }

    #[inline(always)]
    pub fn without(&self, other: &Bits) -> Bits {
        Bits([
            self.0[0] & !other.0[0],
            self.0[1] & !other.0[1],
            self.0[2] & !other.0[2],
            self.0[3] & !other.0[3],
        ])
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        (self.0[0] | self.0[1] | self.0[2] | self.0[3]) == 0
    }

    /// Has a rule in common with the other.
    #[inline(always)]
    pub fn meets(&self, other: &Bits) -> bool {
        ((self.0[0] & other.0[0])
            | (self.0[1] & other.0[1])
            | (self.0[2] & other.0[2])
            | (self.0[3] & other.0[3]))
            != 0
    }

    /// Has a rule in common with both others.
    #[inline(always)]
    pub fn meets_both(&self, one: &Bits, other: &Bits) -> bool {
        ((self.0[0] & one.0[0] & other.0[0])
            | (self.0[1] & one.0[1] & other.0[1])
            | (self.0[2] & one.0[2] & other.0[2])
            | (self.0[3] & one.0[3] & other.0[3]))
            != 0
    }

    #[inline(always)]
    pub fn has(&self, rule: u32) -> bool {
        (self.0[((rule >> 6) & 3) as usize] >> (rule & 63)) & 1 != 0
    }

    #[inline(always)]
    pub fn insert(&mut self, rule: u32) {
        self.0[((rule >> 6) & 3) as usize] |= 1 << (rule & 63);
    }

    #[inline(always)]
    pub fn remove(&mut self, rule: u32) {
        self.0[((rule >> 6) & 3) as usize] &= !(1 << (rule & 63));
    }

    /// The first rule. `None`: the set is empty.
    #[inline(always)]
    pub fn first(&self) -> Option<u32> {
        let (word, base) = if self.0[0] != 0 {
            (self.0[0], 0)
        } else if self.0[1] != 0 {
            (self.0[1], 64)
        } else if self.0[2] != 0 {
            (self.0[2], 128)
        } else if self.0[3] != 0 {
            (self.0[3], 192)
        } else {
            return None;
        };
        Some(base + zeros_below(word))
    }
}

/// Zero bits below the lowest set one. The processor of the kernel's programs has no instruction for it.
#[inline(always)]
fn zeros_below(word: u64) -> u32 {
    let below = word.wrapping_sub(1) & !word;
    let pairs = below - ((below >> 1) & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + ((pairs >> 2) & 0x3333_3333_3333_3333);
    let eights = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (eights.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_is_found_wherever_it_is() {
        assert_eq!(Bits::NONE.first(), None);
        for rule in 0..RULES_MAX as u32 {
            let mut bits = Bits::NONE;
            bits.insert(rule);
            assert_eq!(bits.first(), Some(rule));
            bits.insert(255);
            assert_eq!(bits.first(), Some(rule));
            assert!(bits.has(rule) && bits.meets(&Bits::ALL));
            bits.remove(rule);
            assert!(!bits.has(rule));
        }
    }
}
