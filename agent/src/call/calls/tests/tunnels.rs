//! Tunnels within tunnels: a proxy's peers may ask for as many as they like.
//!
//! What goes through one tunnel is in the tests of conversations.

use super::*;

#[test]
fn hundreds_in_one_write_are_no_hundreds_of_levels() {
    const COUNT: usize = 1_170;
    let ask = || {
        let mut scene = Scene::server();
        scene
            .received("CONNECT a:1 HTTP/1.0\n\n".repeat(COUNT))
            .sent("HTTP/1.0 200\n\n".repeat(COUNT));
        scene.close(false)
    };
    // A fraction of what so many levels took.
    let told = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(ask)
        .unwrap()
        .join()
        .unwrap();
    assert!(told.lines().count() > 2, "{told}");
    assert!(told.lines().all(|line| line.starts_with("CONNECT")), "{told}");
}
