//! Dart's `toString()` of an error → exception type and message.

/// What Dart's core library puts before the message instead of the error's type.
const OPENINGS: [&[u8]; 7] = [
    b"Assertion failed",
    b"Bad state",
    b"Concurrent modification during iteration",
    b"Invalid argument",
    b"Invalid argument(s)",
    b"Unsupported operation",
    b"Uncaught Error",
];

/// Splits at the first `: ` where a type name, or one of Dart's own openings, stands before it.
/// Otherwise all of it is the message.
pub fn split(error: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some(colon) = error.windows(2).position(|pair| pair == b": ") else {
        return (None, error);
    };
    match (error.get(..colon), error.get(colon + 2..)) {
        (Some(kind), Some(message)) if OPENINGS.contains(&kind) || is_type(kind) => (Some(kind), message),
        _ => (None, error),
    }
}

/// `FormatException`, `_TypeError`, `package.Name`, `Result<List<int>, Error?>`: identifiers
/// joined by dots, the last of them capitalized as types are, then perhaps type arguments.
fn is_type(text: &[u8]) -> bool {
    let end = text.iter().position(|&b| b == b'<').unwrap_or(text.len());
    let (Some(name), Some(arguments)) = (text.get(..end), text.get(end..)) else {
        return false;
    };
    let mut parts = name.split(|&b| b == b'.');
    let capital = name.rsplit(|&b| b == b'.').next().is_some_and(is_capitalized);
    capital && parts.all(is_identifier) && are_arguments(arguments)
}

fn is_identifier(text: &[u8]) -> bool {
    let begins = text.first().is_some_and(|&b| b.is_ascii_alphabetic() || b == b'_' || b == b'$');
    begins && text.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
}

fn is_capitalized(text: &[u8]) -> bool {
    text.iter().find(|&&b| b != b'_' && b != b'$').is_some_and(u8::is_ascii_uppercase)
}

/// Nothing, or balanced angle brackets around names that close at the very end.
fn are_arguments(text: &[u8]) -> bool {
    let mut depth = 0usize;
    let mut last = text.len();
    for (i, &b) in text.iter().enumerate() {
        match b {
            b'<' => depth += 1,
            b'>' => match depth.checked_sub(1) {
                Some(0) if i + 1 != text.len() => return false,
                Some(less) => depth = less,
                None => return false,
            },
            b',' | b' ' | b'?' | b'.' | b'_' | b'$' => {}
            _ if b.is_ascii_alphanumeric() => {}
            _ => return false,
        }
        last = i + 1;
    }
    depth == 0 && last == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(error: &str) -> (Option<&str>, &str) {
        let (kind, message) = split(error.as_bytes());
        (kind.map(|kind| std::str::from_utf8(kind).unwrap()), std::str::from_utf8(message).unwrap())
    }

    #[test]
    fn a_type_name_before_the_colon_is_the_type() {
        for (error, kind, message) in [
            ("FormatException: Unexpected character (at character 1)", "FormatException", "Unexpected character (at character 1)"),
            (
                "SocketException: Connection reset (OS Error: reset, errno = 104)",
                "SocketException",
                "Connection reset (OS Error: reset, errno = 104)",
            ),
            ("_TypeError: x", "_TypeError", "x"),
            ("package.Name: x", "package.Name", "x"),
            ("Result<List<int>, Error?>: x", "Result<List<int>, Error?>", "x"),
            ("Exception: ", "Exception", ""),
            ("Bad state: No element", "Bad state", "No element"),
            ("Invalid argument(s): x: y", "Invalid argument(s)", "x: y"),
        ] {
            assert_eq!(parts(error), (Some(kind), message));
        }
    }

    #[test]
    fn anything_else_is_all_message() {
        for error in [
            "",
            "FormatException",
            "FormatException:x",
            "something broke: badly",
            "error: x",
            "Two Words: x",
            ": x",
            "A<b: x",
            "A<b>c: x",
            "A>: x",
            "A..B: x",
            "1A: x",
            "Größe: x",
            "A<b>>: x",
        ] {
            assert_eq!(parts(error), (None, error));
        }
    }
}
