use super::*;

#[test]
#[ignore = "reads the files named in XENLAB_TEST_IMAGES"]
fn show() {
    for f in std::env::var("XENLAB_TEST_IMAGES").unwrap().split(' ') {
        let t = std::time::Instant::now();
        let (image, _) = read_file(Path::new(f)).unwrap();
        println!("{f} {:?}\n{}", t.elapsed(), serde_json::to_string_pretty(&image).unwrap());
    }
}
