// Scores: LEFT times what RIGHT(i, j) gives
#if ROLLED
  for (var j = 0u; j < p.score_n; j++) {
    var s = Sum();
    for (var i = 0u; i < p.width_k; i++) { s = subgroupMatrixMultiplyAccumulate(${LEFT}[i], ${RIGHT}(i, sn * SCORES + j), s); }
    subgroupMatrixStore<row_major>(&memory, STAGE + sm * SCORE_LD + (sn * SCORES + j) * TILE_N / 4u, s, SCORE_LD);
  }
#else
  {
#repeat j SCORES
    var s_${j} = Sum();
#repeat i WIDTH / TILE_K
    s_${j} = subgroupMatrixMultiplyAccumulate(${LEFT}_${i}, ${RIGHT}(${i}u, sn * SCORES + ${j}u), s_${j});
#end
    subgroupMatrixStore<row_major>(&memory, STAGE + sm * SCORE_LD + (sn * SCORES + ${j}u) * TILE_N / 4u, s_${j}, SCORE_LD);
#end
  }
#end
