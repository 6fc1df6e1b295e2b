//! OpenSSL's functions that plaintext passes through, and how they take their arguments.
//!
//! The API is the same from 1.1.1 on, and in its relatives as far as they have a function at all. It must not know
//! what a library makes of them inside.

use apiward_common::site::{Kind, Op, Reg, ResultIn, SiteCookie};

/// An exported function of the OpenSSL API, and how it passes its arguments.
pub(super) struct Export {
    pub(super) name: &'static str,
    pub(super) op: Op,
    pub(super) buf: Option<Reg>,
    pub(super) len: Option<Reg>,
    pub(super) out: Option<Reg>,
    pub(super) result: ResultIn,
}

const fn counted(name: &'static str, op: Op) -> Export {
    let (buf, len) = (Some(Reg::Rsi), Some(Reg::Rdx));
    Export {
        name,
        op,
        buf,
        len,
        out: None,
        result: ResultIn::Count32,
    }
}

const fn flagged(name: &'static str, op: Op, out: Reg) -> Export {
    let (buf, len) = (Some(Reg::Rsi), Some(Reg::Rdx));
    Export {
        name,
        op,
        buf,
        len,
        out: Some(out),
        result: ResultIn::Flag,
    }
}

const fn bare(name: &'static str, op: Op) -> Export {
    Export {
        name,
        op,
        buf: None,
        len: None,
        out: None,
        result: ResultIn::Count32,
    }
}

/// All ways to the plaintext, and what else the agent has to see of a TLS object. The order matters: what comes
/// first can cover what comes later.
pub(super) const EXPORTS: &[Export] = &[
    counted("SSL_read", Op::Read),
    flagged("SSL_read_ex", Op::Read, Reg::Rcx),
    counted("SSL_peek", Op::Peek),
    flagged("SSL_peek_ex", Op::Peek, Reg::Rcx),
    // OpenSSL 3.3: (ssl, buffer, length, flags, &written)
    flagged("SSL_write_ex2", Op::Write, Reg::R8),
    counted("SSL_write", Op::Write),
    flagged("SSL_write_ex", Op::Write, Reg::Rcx),
    flagged("SSL_read_early_data", Op::ReadEarly, Reg::Rcx),
    flagged("SSL_write_early_data", Op::WriteEarly, Reg::Rcx),
    // (ssl, file descriptor, offset, size, flags)
    Export {
        name: "SSL_sendfile",
        op: Op::Sendfile,
        buf: None,
        len: Some(Reg::Rcx),
        out: None,
        result: ResultIn::Count64,
    },
    bare("SSL_do_handshake", Op::Handshake),
    bare("SSL_connect", Op::Handshake),
    bare("SSL_accept", Op::Handshake),
    bare("SSL_free", Op::Free),
];

impl Export {
    pub(super) fn cookie(&self, kind: Kind) -> SiteCookie {
        SiteCookie {
            op: self.op,
            kind,
            result: self.result,
            ssl: Some(Reg::Rdi),
            buf: self.buf,
            len: self.len,
            out: self.out,
            library: 0,
        }
    }
}
