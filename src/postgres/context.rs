//! The line that PostgreSQL names when a COPY fails.

/// The line in a context such as `COPY log_records, line 3, column body`. The text is in the server's language
/// (`COPY log_records, Zeile 3`, `log_recordsのCOPY、行 3`), so only the table's name and the number after it are read.
/// Our COPY is outermost and therefore the context's last line. The lines before it come from triggers, which may quote
/// any text of a record.
pub(crate) fn copy_line(context: &str, table: &str) -> Option<usize> {
    let copy = context.lines().last()?;
    let after = copy.strip_prefix("COPY ").unwrap_or(copy).strip_prefix(table)?;
    let goes_on = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    if after.starts_with(goes_on) {
        return None;
    }
    let number = after.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok().filter(|line| *line > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::table::ddl::LOG_RECORDS;

    fn copy_line(context: &str) -> Option<usize> {
        super::copy_line(context, LOG_RECORDS)
    }

    proptest! {
        #[test]
        fn any_context_is_read(parts in [".*", ".*", ".*"]) {
            let line = copy_line(&parts.join(LOG_RECORDS));
            prop_assert_ne!(line, Some(0), "lines count from 1");
            prop_assert_eq!(copy_line(&[&parts[0], "\nCOPY log_records, line 7"].concat()), Some(7));
        }
    }

    #[test]
    fn the_line_of_a_copy_is_found() {
        assert_eq!(copy_line("COPY log_records, line 3, column body"), Some(3));
        assert_eq!(copy_line("COPY log_records, line 12"), Some(12));
        assert_eq!(copy_line("COPY log_records, line 7, column 2nd"), Some(7));
        assert_eq!(copy_line("PL/pgSQL function f() line 3 at RAISE\nCOPY log_records, line 2"), Some(2));
        let insert = "SQL statement \"INSERT INTO log_records VALUES (9)\"";
        assert_eq!(copy_line(&format!("{insert}\nCOPY log_records, line 4")), Some(4));
        assert_eq!(copy_line(insert), None);
        for translated in [
            "COPY log_records, Zeile 3, Spalte body",
            "COPY log_records, ligne 3, colonne body",
            "COPY log_records, строка 3, столбец body",
            "log_recordsのCOPY、行 3、列 body",
            "log_records 복사, 3번째 줄, body 열",
        ] {
            assert_eq!(copy_line(translated), Some(3), "{translated}");
        }
        for other in [
            "COPY log_records_old, line 3",
            "COPY my_log_records, line 3",
            "COPY log_records$, line 3",
            "COPY log_records2, line 3",
            "log_records_oldのCOPY、行 3、列 body",
            "COPY log_records, line 5\nPL/pgSQL function f() line 3 at EXECUTE",
            "SQL statement \"COPY log_records, line 5\"",
            "PL/pgSQL function \"COPY log_records\"() line 3 at RAISE",
        ] {
            assert_eq!(copy_line(other), None, "{other}");
            assert_eq!(copy_line(&format!("{other}\nCOPY log_records, line 2")), Some(2), "{other}");
        }
        assert_eq!(copy_line("SQL statement \"SELECT 1\""), None);
        assert_eq!(copy_line("COPY log_records, line x"), None);
        assert_eq!(super::copy_line("COPY logs2, line 3, column 1st", "logs2"), Some(3));
    }
}
