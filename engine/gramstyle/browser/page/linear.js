// Small systems of linear equations.

export class NotSolvableError extends Error {}

/** Return the solution of A x = b, by elimination with the largest pivot of each column. */
export function solve(A, b) {
  const n = b.length;
  const rows = A.map((row, i) => [...row, b[i]]);
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let i = column + 1; i < n; i++) {
      if (Math.abs(rows[i][column]) > Math.abs(rows[pivot][column])) pivot = i;
    }
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    const top = rows[column];
    if (!(Math.abs(top[column]) > 0)) throw new NotSolvableError("the matrix is singular");
    for (let i = column + 1; i < n; i++) {
      const factor = rows[i][column] / top[column];
      for (let j = column; j <= n; j++) rows[i][j] -= factor * top[j];
    }
  }
  const x = new Array(n).fill(0);
  for (let i = n - 1; i >= 0; i--) {
    let value = rows[i][n];
    for (let j = i + 1; j < n; j++) value -= rows[i][j] * x[j];
    x[i] = value / rows[i][i];
  }
  if (!x.every(Number.isFinite)) throw new NotSolvableError("the solution is not finite");
  return x;
}
