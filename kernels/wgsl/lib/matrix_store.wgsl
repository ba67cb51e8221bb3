// SUMS to memory, over what was there
#if ROLLED
  for (var j = 0u; j < p.width_n; j++) {
    subgroupMatrixStore<row_major>(&memory, sm * OUT_LD + (sn * COLUMNS + j) * TILE_N / 4u, ${SUMS}[j], OUT_LD);
  }
#else
#repeat j COLUMNS
  subgroupMatrixStore<row_major>(&memory, sm * OUT_LD + (sn * COLUMNS + ${j}u) * TILE_N / 4u, ${SUMS}_${j}, OUT_LD);
#end
#end
