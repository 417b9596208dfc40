//! Which instructions the processor has.
//!
//! Invariant: a [`Kernels`] exists only for instructions that were found on this processor; calling functions that
//! need them is sound where one is at hand.

/// Instructions that kernels are run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels(pub(crate) Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernels {
    /// All that this processor can run, the slowest first.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self(Set::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if has_avx2 {
                sets.push(Self(Set::Avx2));
            }
            let has_avx512 = has_avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            if has_avx512 {
                sets.push(Self(Set::Avx512));
            }
        }
        sets
    }

    /// The fastest that this processor can run.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self(Set::Portable))
    }

    /// For people; results do not depend on it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512-vnni",
        }
    }
}

/// Compiles a function of plain Rust once for each set of instructions, as a method of [`Kernels`]. The compiler neither
/// reorders nor fuses floating-point operations, so all of them give the same bits.
macro_rules! for_each_set {
    ($(#[$doc:meta])* $name:ident = $body:path, ($($arg:ident: $type:ty),*) $(-> $result:ty)?) => {
        impl crate::Kernels {
            $(#[$doc])*
            #[allow(clippy::too_many_arguments, reason = "shapes and buffers of one loop")]
            pub fn $name(self, $($arg: $type),*) $(-> $result)? {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments, reason = "shapes and buffers of one loop")]
                fn avx2($($arg: $type),*) $(-> $result)? {
                    $body($($arg),*)
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments, reason = "shapes and buffers of one loop")]
                fn avx512($($arg: $type),*) $(-> $result)? {
                    $body($($arg),*)
                }
                match self.0 {
                    crate::instructions::Set::Portable => $body($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: this set exists only where these instructions were found.
                    crate::instructions::Set::Avx2 => unsafe { avx2($($arg),*) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    crate::instructions::Set::Avx512 => unsafe { avx512($($arg),*) },
                }
            }
        }
    };
}

pub(crate) use for_each_set;
