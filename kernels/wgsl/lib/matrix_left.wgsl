// A subgroup's staged rows as matrices LEFT
#if ROLLED
  var ${LEFT}: array<Left, WIDTH / TILE_K>;
  for (var i = 0u; i < p.width_k; i++) { ${LEFT}[i] = rows_at(sm, i); }
#else
#repeat i WIDTH / TILE_K
  let ${LEFT}_${i} = rows_at(sm, ${i}u);
#end
#end
