//! What wrk asks for: a URL, and the script that makes requests of it.
//!
//! It must not know what is measured with them.

/// A URL, and what a script makes of it.
#[derive(Clone, Debug)]
pub struct Calls {
    pub url: String,
    /// Lua, before the summary.
    pub script: String,
    /// Some answers are no successes, and are to be.
    pub some_are_refused: bool,
}

impl Calls {
    /// The same GET again and again.
    pub fn plain(url: String) -> Calls {
        Calls {
            url,
            script: String::new(),
            some_are_refused: false,
        }
    }

    /// With so many more header fields, of the kind that browsers and gateways send.
    pub fn with_headers(mut self, count: usize) -> Calls {
        for number in 0..count {
            let value = format!("value-{number}-{}", "abcdefgh".repeat(number % 5 + 1));
            self.script += &format!("wrk.headers[\"X-Field-{number}\"] = \"{value}\"\n");
        }
        self
    }

    /// Every `nth` request goes to `path`, and is refused.
    pub fn with_refused(mut self, path: &str, nth: u32) -> Calls {
        self.script += &format!(
            "local n = 0\n\
             function request() n = n + 1; if n % {nth} == 0 then return wrk.format(nil, \"{path}\") end; \
             return wrk.format() end\n"
        );
        self.some_are_refused = true;
        self
    }
}
