//! The figures of `bench warm`, for people.

use serde_json::Value;

/// `bench warm` for people.
pub fn warm_table(value: &Value) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for (arch, of) in value["results"].as_object().into_iter().flatten() {
        let seconds = |v: &Value| v.as_f64().map_or("-".to_owned(), |s| format!("{s:.3} s"));
        let _ = writeln!(
            text,
            "{arch}: {} in QEMU {} ({})",
            of["xen"].as_str().unwrap_or(""),
            of["qemu"].as_str().unwrap_or(""),
            of["accel"].as_str().unwrap_or("")
        );
        for (name, key) in [
            ("bare restore", "bare_restore"),
            ("clone, first command", "clone_first_command"),
            ("pool, first command", "pool_first_command"),
            ("clone, judged by port", "clone_judged"),
            ("clone, judged by SSH", "clone_judged_ssh"),
            ("40 cases on clones", "cases_40"),
            ("power-on, judged", "cold_judged"),
            ("template, over the boot", "template_cost"),
            ("template, freezing", "template_freeze"),
        ] {
            let v = &of[key];
            let _ = writeln!(
                text,
                "  {name:<24} median {}, p95 {}, {} to {}, n {}, failed {}",
                seconds(&v["median"]),
                seconds(&v["p95"]),
                seconds(&v["min"]),
                seconds(&v["max"]),
                v["n"],
                v["failed"]
            );
        }
        for (what, key) in
            [("clone", "clone_stages"), ("power-on", "cold_stages"), ("template", "template_stages")]
        {
            for (name, stage) in of[key].as_object().into_iter().flatten() {
                let name = format!("{what}, stage {name}");
                let _ = writeln!(text, "  {name:<24} {}", seconds(&stage["median"]));
            }
        }
        let (pss, ratio) = (&of["clone_pss_bytes"]["value"], &of["cold_over_clone"]["value"]);
        let _ = writeln!(
            text,
            "  a clone takes {} of memory (PSS) after its first command; from power-on a case takes {} times as long; \
             40 cases take {} times 40 medians by the processors",
            pss.as_f64().map_or("-".to_owned(), |b| format!("{:.0} MB", b / 1e6)),
            ratio.as_f64().map_or("-".to_owned(), |r| format!("{r:.1}")),
            of["cases_40_over_ideal"]["value"].as_f64().map_or("-".to_owned(), |r| format!("{r:.2}"))
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_not_measured_is_shown_as_such() {
        let none = super::super::summary(&[], 3);
        let of = json!({"xen": "x", "bare_restore": none, "clone_pss_bytes": {"value": null}, "cold_over_clone": {"value": 9.5}});
        let text = warm_table(&json!({"results": {"x86_64": of}}));
        assert!(text.contains("bare restore             median -") && text.contains("failed 3"), "{text}");
        assert!(text.contains("takes - of memory") && text.contains("9.5 times"), "{text}");
    }
}
