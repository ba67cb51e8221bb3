// A subgroup's sums SUMS, 0
#if ROLLED
  var ${SUMS}: array<Sum, COLUMNS>;
  for (var j = 0u; j < p.width_n; j++) { ${SUMS}[j] = Sum(); }
#else
#repeat j COLUMNS
  var ${SUMS}_${j} = Sum();
#end
#end
