// SUMS += weights times what is staged
#if ROLLED
  for (var j = 0u; j < p.width_n; j++) {
    for (var i = 0u; i < p.score_k; i++) {
      ${SUMS}[j] = subgroupMatrixMultiplyAccumulate(weights_at(sm, i), staged_at(i, sn * COLUMNS + j), ${SUMS}[j]);
    }
  }
#else
  {
#repeat i 64 / TILE_K
    let left_${i} = weights_at(sm, ${i}u);
#end
#repeat j COLUMNS
#repeat i 64 / TILE_K
    ${SUMS}_${j} = subgroupMatrixMultiplyAccumulate(left_${i}, staged_at(${i}u, sn * COLUMNS + ${j}u), ${SUMS}_${j});
#end
#end
  }
#end
