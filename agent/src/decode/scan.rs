//! Byte classes of RFC 9110 §5.6.2 and the search for a head's end; shared by `sniff` and `http1`.

use apiward_common::gate::METHODS;

/// The gate and the agent split a line at the same places.
pub use apiward_common::gate::is_blank;

/// `tchar`: what a method or a field name may be made of.
pub fn is_tchar(byte: u8) -> bool {
    TCHAR[byte as usize]
}

const TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        table[index] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        index += 1;
    }
    table
};

/// The registered method that these bytes spell, exactly (methods are case-sensitive).
pub fn registered_method(method: &[u8]) -> Option<&'static str> {
    // Nearly all calls are one of these.
    match method {
        b"GET" => return Some("GET"),
        b"POST" => return Some("POST"),
        b"PUT" => return Some("PUT"),
        _ => {}
    }
    METHODS
        .binary_search_by(|name| name.as_bytes().cmp(method))
        .ok()
        .map(|index| METHODS[index])
}

/// Index after the empty line that ends a head, or where to go on looking when more bytes have come.
pub fn head_end(bytes: &[u8], from: usize) -> Result<usize, usize> {
    let mut at = from;
    while let Some(offset) = memchr::memchr(b'\n', &bytes[at..]) {
        let line_feed = at + offset;
        match bytes.get(line_feed + 1) {
            Some(b'\n') => return Ok(line_feed + 2),
            Some(b'\r') => match bytes.get(line_feed + 2) {
                Some(b'\n') => return Ok(line_feed + 3),
                Some(_) => {}
                None => return Err(line_feed),
            },
            Some(_) => {}
            None => return Err(line_feed),
        }
        at = line_feed + 1;
    }
    Err(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_sorted_for_the_search() {
        assert!(METHODS.is_sorted());
        for method in METHODS {
            assert_eq!(registered_method(method.as_bytes()), Some(*method));
        }
        assert_eq!(registered_method(b"get"), None);
    }

    #[test]
    fn a_heads_end_is_found_however_it_is_split() {
        for head in [
            "GET / HTTP/1.1\r\nA: b\r\n\r\nbody",
            "GET / HTTP/1.1\nA: b\n\nbody",
            "G\n\r\nbody",
        ] {
            let expected = head.len() - 4;
            for split in 0..head.len() {
                let from = match head_end(&head.as_bytes()[..split], 0) {
                    Ok(end) => {
                        assert_eq!(end, expected);
                        continue;
                    }
                    Err(from) => from,
                };
                assert_eq!(head_end(head.as_bytes(), from), Ok(expected), "split at {split}");
            }
        }
    }
}
