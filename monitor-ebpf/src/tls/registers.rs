//! Registers at a probe, by what they are for, on either processor: the object is the same for both, and a knob says
//! which it is loaded on. `struct pt_regs` of x86-64 (arch/x86/include/asm/ptrace.h), `struct user_pt_regs` of arm64.

use aya_ebpf::Global;
use core::ffi::c_void;

#[unsafe(no_mangle)]
pub(crate) static KNOB_ARM: Global<u32> = Global::new(0);

/// A word of the registers. Written out, with the place in the instruction: the verifier refuses a place that is computed,
/// and LLVM would make one of two that are chosen between.
macro_rules! word {
    ($regs:expr, $at:literal) => {{
        let value: u64;
        // SAFETY: the context of a probe holds at least 168 bytes of registers on both processors.
        unsafe {
            core::arch::asm!(concat!("{0} = *(u64 *)({1} + ", $at, ")"), out(reg) value, in(reg) $regs);
        }
        value
    }};
}

/// What is in a register: by its place in x86-64's registers and in arm64's.
macro_rules! register {
    ($(#[$doc:meta])* $name:ident, $x86:literal, $arm:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(regs: *mut c_void) -> u64 {
            if KNOB_ARM.load() != 0 { word!(regs, $arm) } else { word!(regs, $x86) }
        }
    };
}

// Arguments of a function in C: rdi rsi rdx rcx r8 r9; x0 to x5.
register!(c0, "112", "0");
register!(c1, "104", "8");
register!(c2, "96", "16");
register!(c3, "88", "24");
register!(c4, "72", "32");
register!(c5, "64", "40");
register!(
    /// Where a function in Rust writes a result that fits no registers: rdi; x8.
    result, "112", "64"
);

/// The second and the third argument of such a function, behind that place.
#[inline(always)]
pub(crate) fn kinds(regs: *mut c_void) -> (u64, u64) {
    // On x86-64 the place of the result is itself the first argument.
    if KNOB_ARM.load() != 0 { (word!(regs, "8"), word!(regs, "16")) } else { (word!(regs, "96"), word!(regs, "88")) }
}

// Words of a method's arguments in Go behind the receiver: rbx rcx rdi rsi r8 r9 r10; x1 to x7.
register!(go1, "40", "8");
register!(go2, "88", "16");
register!(go3, "112", "24");
register!(go6, "64", "48");
register!(go7, "56", "56");
register!(stack, "152", "248");
register!(
    /// Where the function begins, at its entry: rip; pc.
    here, "128", "256"
);
