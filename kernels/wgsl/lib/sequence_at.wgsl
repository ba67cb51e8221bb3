// Which sequence something belongs to. They need offsets: array<u32>, and `sequences` in Params

// Of token n
fn sequence_of(n: u32) -> u32 {
  var sequence = 0u;
  for (var high = p.sequences - 1u; sequence < high;) {
    let middle = (sequence + high + 1u) / 2u;
    if (offsets[middle] <= n) { sequence = middle; } else { high = middle - 1u; }
  }
  return sequence;
}

// Whose tiles of `tile` tokens have this slot: those of sequence b start at offsets[b] / tile + b
fn sequence_at(slot: u32, tile: u32) -> u32 {
  var sequence = 0u;
  for (var high = p.sequences - 1u; sequence < high;) {
    let middle = (sequence + high + 1u) / 2u;
    if (offsets[middle] / tile + middle <= slot) { sequence = middle; } else { high = middle - 1u; }
  }
  return sequence;
}
