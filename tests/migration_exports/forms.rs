//! The other forms of the same exports say the same.

use super::World;

#[test]
fn placeholder() {
    let _ = World::new("clerk", serde_json::json!({}));
}
