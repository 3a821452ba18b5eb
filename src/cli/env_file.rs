//! Files of variables, as Node and Next.js read them (`.env`).

/// The variables of a file, in its order; of a name given twice the last counts, as in Node. Nothing is expanded.
pub fn parse(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let name = name.trim();
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(fine) {
            continue;
        }
        found.retain(|(known, _)| known != name);
        found.push((name.to_owned(), unquote(value.trim()).to_owned()));
    }
    found
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\'', '`'] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner.split(quote).next().unwrap_or(inner);
        }
    }
    // A comment begins only after white space: `#` may be part of a secret.
    value.split(" #").next().unwrap_or(value).trim_end()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lines_are_read_as_node_reads_them() {
        let text = "# note\nA=1\nexport B = \"two words\" # why\nC='x#y'\nD=a#b # c\n\nnot a line\nA=2\nE=\n";
        let pairs = parse(text);
        let read: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            read,
            [
                ("B", "two words"),
                ("C", "x#y"),
                ("D", "a#b"),
                ("A", "2"),
                ("E", "")
            ]
        );
    }
}
