//! One function per kind of operation, on burn tensors.
//!
//! Shapes have been inferred and checked; what each operation means is written at
//! [`crate::spec::Op`].

use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Tensor, activation};

use crate::spec::Op;

/// An operation's inputs (`[rows, elements]` each), their shapes for one row, and its parameters.
pub(super) struct Call<'a> {
    pub(super) rows: usize,
    pub(super) inputs: Vec<Tensor<2>>,
    pub(super) shapes: Vec<&'a [usize]>,
    pub(super) params: Vec<Tensor<1>>,
}

impl Call<'_> {
    /// The output, `[rows, elements]`.
    pub(super) fn run(self, op: &Op) -> Tensor<2> {
        match op {
            Op::Linear { units, .. } => self.linear(*units),
            Op::Conv2d { channels, kernel, stride, padding, groups, .. } => {
                let [_, c, _, _] = self.image_shape();
                let weight = [*channels, c / groups, kernel[0], kernel[1]];
                self.conv(weight, ConvOptions::new(*stride, *padding, [1, 1], *groups))
            }
            Op::MaxPool2d { kernel, stride, padding } => {
                let options = MaxPoolOptions::new(*kernel);
                let options = options.with_stride(*stride).with_padding(*padding);
                self.flat(max_pool2d(self.image(), options))
            }
            Op::AvgPool2d { kernel, stride } => {
                let options = AvgPoolOptions::new(*kernel).with_stride(*stride);
                self.flat(avg_pool2d(self.image(), options))
            }
            Op::GlobalAvgPool => {
                let [rows, c, h, w] = self.image_shape();
                self.input().reshape([rows * c, h * w]).mean_dim(1).reshape([rows, c])
            }
            Op::BatchNorm { eps } => self.batch_norm(*eps),
            Op::LayerNorm { eps } => {
                let width = self.last_axis();
                let x = normalised(self.vectors(), *eps);
                let [weight, bias] = self.affine().map(|param| param.reshape([1, width]));
                self.flat(x * weight + bias)
            }
            Op::GroupNorm { groups, eps } => {
                let elements: usize = self.shapes[0].iter().product();
                let x = self.input().reshape([self.rows * groups, elements / groups]);
                self.scale_channels(normalised(x, *eps))
            }
            Op::Relu => activation::relu(self.input()),
            Op::Gelu => activation::gelu(self.input()),
            Op::Sigmoid => activation::sigmoid(self.input()),
            Op::Tanh => activation::tanh(self.input()),
            Op::Silu => activation::silu(self.input()),
            Op::Softmax => self.flat(activation::softmax(self.vectors(), 1)),
            Op::Flatten | Op::Reshape { .. } => self.input(),
            Op::Add => {
                let mut inputs = self.inputs.into_iter();
                let first = inputs.next().expect("a checked sum reads two or more values");
                inputs.fold(first, |sum, input| sum + input)
            }
            Op::Concat { axis } => self.concat(*axis),
        }
    }

    fn input(&self) -> Tensor<2> {
        self.inputs[0].clone()
    }

    fn last_axis(&self) -> usize {
        self.shapes[0][self.shapes[0].len() - 1]
    }

    /// `[rows · everything before the last axis, last axis]`.
    fn vectors(&self) -> Tensor<2> {
        let elements: usize = self.shapes[0].iter().product();
        let width = self.last_axis();
        self.input().reshape([self.rows * (elements / width), width])
    }

    fn image_shape(&self) -> [usize; 4] {
        let shape = self.shapes[0];
        [self.rows, shape[0], shape[1], shape[2]]
    }

    fn image(&self) -> Tensor<4> {
        self.input().reshape(self.image_shape())
    }

    fn flat<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<2> {
        let elements: usize = tensor.dims().iter().product();
        tensor.reshape([self.rows, elements / self.rows])
    }

    fn affine(&self) -> [Tensor<1>; 2] {
        [self.params[0].clone(), self.params[1].clone()]
    }

    fn linear(self, units: usize) -> Tensor<2> {
        let weight = self.params[0].clone().reshape([units, self.last_axis()]);
        let mut y = self.vectors().matmul(weight.transpose());
        if let Some(bias) = self.params.get(1) {
            y = y + bias.clone().reshape([1, units]);
        }
        self.flat(y)
    }

    fn conv(self, weight_shape: [usize; 4], options: ConvOptions<2>) -> Tensor<2> {
        let weight = self.params[0].clone().reshape(weight_shape);
        let bias = self.params.get(1).cloned();
        self.flat(conv2d(self.image(), weight, bias, options))
    }

    fn batch_norm(self, eps: f64) -> Tensor<2> {
        let [weight, bias] = self.affine();
        let (mean, variance) = (self.params[2].clone(), self.params[3].clone());
        let scale = weight / (variance + eps).sqrt();
        let shift = bias - mean * scale.clone();
        self.per_channel(self.input(), scale, shift)
    }

    fn scale_channels(self, x: Tensor<2>) -> Tensor<2> {
        let [weight, bias] = self.affine();
        self.per_channel(x, weight, bias)
    }

    /// `x · scale + shift` with one factor for each channel, the first axis.
    fn per_channel(&self, x: Tensor<2>, scale: Tensor<1>, shift: Tensor<1>) -> Tensor<2> {
        let channels = self.shapes[0][0];
        let elements: usize = self.shapes[0].iter().product();
        let x: Tensor<3> = x.reshape([self.rows, channels, elements / channels]);
        self.flat(x * scale.reshape([1, channels, 1]) + shift.reshape([1, channels, 1]))
    }

    /// Along an axis the elements behind it are contiguous, so each input is a matrix of
    /// `[everything before, the axis and everything behind]`.
    fn concat(self, axis: usize) -> Tensor<2> {
        let before = self.rows * self.shapes[0][..axis].iter().product::<usize>();
        let parts =
            self.inputs.iter().zip(&self.shapes).map(|(input, shape)| {
                input.clone().reshape([before, shape[axis..].iter().product()])
            });
        self.flat(Tensor::cat(parts.collect(), 1))
    }
}

/// Each row of the matrix brought to mean 0 and variance 1.
fn normalised(x: Tensor<2>, eps: f64) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().powi_scalar(2).mean_dim(1);
    centred / (variance + eps).sqrt()
}
