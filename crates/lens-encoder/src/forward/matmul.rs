//! Matrix views over slices, and their product.

use gemm::Parallelism;

/// A read-only matrix inside a slice; element `(r, c)` lies at `r * rs + c * cs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    rs: usize,
    cs: usize,
}

impl<'a> MatRef<'a> {
    /// Rows of `cols` values, `stride` values apart.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(span(rows, cols, stride, 1) <= data.len(), "matrix view beyond its slice");
        Self { data, rows, cols, rs: stride, cs: 1 }
    }

    /// The same values, rows and columns swapped.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, rs: self.cs, cs: self.rs, ..self }
    }
}

/// A writable matrix inside a slice, rows `stride` values apart.
#[derive(Debug)]
pub(crate) struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> MatMut<'a> {
    /// Rows of `cols` values, `stride` values apart.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(span(rows, cols, stride, 1) <= data.len(), "matrix view beyond its slice");
        assert!(cols <= stride || rows <= 1, "overlapping rows");
        Self { data, rows, cols, stride }
    }
}

fn span(rows: usize, cols: usize, rs: usize, cs: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * rs + (cols - 1) * cs + 1 }
}

/// Who computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread: for products inside a parallel loop.
    One,
    /// All threads of the pool.
    All,
}

/// `dst = lhs · rhs`, or `dst += lhs · rhs` with `add`.
pub(crate) fn matmul(dst: MatMut, lhs: MatRef, rhs: MatRef, add: bool, threads: Threads) {
    assert_eq!(
        (dst.rows, dst.cols, lhs.cols),
        (lhs.rows, rhs.cols, rhs.rows),
        "shapes of a matrix product"
    );
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: the views' constructors checked that every element lies in its slice, `dst` is
    // borrowed exclusively and its rows do not overlap, and the shapes agree.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            lhs.cols,
            dst.data.as_mut_ptr(),
            1,
            dst.stride as isize,
            add,
            lhs.data.as_ptr(),
            lhs.cs as isize,
            lhs.rs as isize,
            rhs.data.as_ptr(),
            rhs.cs as isize,
            rhs.rs as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_views_multiply_as_by_hand() {
        let a: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..20).map(|i| (i % 7) as f32).collect();
        // a: 3x2 with stride 4; b: 5 rows of 2 (stride 4), transposed to 2x5.
        let mut c = vec![1.0; 18];
        matmul(
            MatMut::new(&mut c, 3, 5, 6),
            MatRef::new(&a, 3, 2, 4),
            MatRef::new(&b, 5, 2, 4).t(),
            true,
            Threads::All,
        );
        for r in 0..3 {
            for n in 0..5 {
                let want = 1.0 + a[r * 4] * b[n * 4] + a[r * 4 + 1] * b[n * 4 + 1];
                assert_eq!(c[r * 6 + n], want);
            }
        }
        assert_eq!(c[5], 1.0);
    }
}
