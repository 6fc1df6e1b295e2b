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
        let unread = scene.calls.take_unread().len();
        (scene.close(false), unread)
    };
    // A fraction of what so many levels took.
    let (told, unread) = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(ask)
        .unwrap()
        .join()
        .unwrap();
    // The first, and those of the eight tunnels that are followed.
    assert_eq!(told.lines().count(), 9, "{told}");
    assert!(told.lines().all(|line| line.starts_with("CONNECT")), "{told}");
    assert_eq!(unread, 1, "that the next is not followed is told");
}
