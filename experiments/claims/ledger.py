"""The 47 claims of the notes, in the order in which they make them.

Margins are declared here, before the runs. Below its margin an effect counts as nothing:

    0.3 points    of a test error, where the paper's effect is a few tenths (overlap: 0.4) or it has
                  none; three times what 10,000 images leave open at 1 % error (0.1)
    0.5, 1 point  where the paper's effect is some points, on the few images of the small scale
    1.25 times    of steps to a training error: a quarter, less than the next learning rate of a
                  grid changes

An effect has the sign that makes the claim true above zero (or above 1 of a ratio), unless
`direction` says otherwise. What is computed holds or does not: a margin there is of what is trained
beside it.
"""

from experiments.claims import trained
from experiments.claims.claim import NOT_RESOLVED, Claim, Verdict
from experiments.claims.computed import alexnet, googlenet, gradients, lenet, resnet, vgg

POINTS = 'percentage points'

LENET = (
    Claim(
        'L1',
        'At fewer weights a convolutional net has a lower error than a fully connected one, and '
        'tolerates shifts better.',
        'LeCun 1998, Sec. II and III-C, Fig. 9',
        'test error of an MLP of 300 hidden units minus that of LeNet-5, MNIST, both on images '
        'padded to 32x32; also 300 and 100 units, shifts of 0 to 5 pixels, and one fixed '
        'permutation of the pixels',
        POINTS,
        '4.7 - 0.95 = 3.75',
        value=3.75,
        margin=0.3,
        direction=1,
        config='lenet_shift.py:small',
        facts=lenet.l1_sizes,
    ),
    Claim(
        'L2',
        'The layers are input, C1, S2, C3, S4, C5, F6, output: three convolutions, two '
        'subsamplings, one fully connected.',
        'LeCun 1998, Sec. II-B, Fig. 2',
        'order, shapes, parameters and connections of every layer against the paper',
        'parameters',
        '60,000 parameters, 340,908 connections',
        compute=lenet.l2,
    ),
    Claim(
        'L3',
        'The activation of every layer is tanh.',
        'LeCun 1998, Sec. II-B, Eq. 5 to 7',
        'slope at 0 of the activation of the net of 1998; trained: test error with plain tanh '
        'minus that with scaled tanh, MNIST; also ReLU, and a linear output instead of codes',
        'slope at 0',
        '1.7159 tanh(2x/3): 1.14',
        margin=0.3,
        config='lenet_activation.py:small',
        compute=lenet.l3,
        correction='It is the scaled tanh 1.7159 tanh(2x/3), up to F6; the output is Euclidean '
        'distances to fixed codes.',
    ),
    Claim(
        'L4',
        'C1 is six filters of 5x5 that make six maps; 32 becomes 28 because nothing is padded.',
        'LeCun 1998, Sec. II-B',
        "side of C1's map",
        'pixels',
        '28',
        compute=lenet.l4,
    ),
    Claim(
        'L5',
        'S2 is a 2x2 filter of stride 2; S4 takes 10x10 to 5x5.',
        'LeCun 1998, Sec. II-B',
        'trainable parameters of S2 and S4; trained: test error with plain average pooling minus '
        'that with trainable subsampling, MNIST; also max pooling',
        'parameters',
        '12 + 32 = 44',
        margin=0.3,
        config='lenet_subsampling.py:small',
        compute=lenet.l5,
        correction='Each unit is the sum of four inputs times a trainable coefficient plus a bias, '
        'squashed: 12 and 32 parameters, not a filter.',
    ),
    Claim(
        'L6',
        'C3 makes 16 maps of 6.',
        'LeCun 1998, Sec. II-B, Table I',
        'parameters of C3; trained: test error with the links of Table I minus that with all '
        'links, MNIST; also how alike the maps of C3 are',
        'parameters',
        '1,516; no error with all links',
        margin=0.3,
        config='lenet_c3.py:small',
        compute=lenet.l6,
        correction='Each map of C3 reads 3, 4 or 6 of the 6 maps; with all links it is another '
        'net.',
    ),
    Claim(
        'L7',
        'C5 is a convolution whose kernel has the size of the map, hence 1x1.',
        'LeCun 1998, Sec. II-B',
        "side of C5's map on images of 36x36; C5 against a fully connected layer on 32x32",
        'pixels',
        '1 on 32x32, larger on a larger image',
        compute=lenet.l7,
    ),
    Claim(
        'L8',
        'F6 is fully connected, with 84 units.',
        'LeCun 1998, Sec. II-B, Fig. 3',
        'parameters of F6, and the pixels of an output code',
        'parameters',
        '10,164',
        compute=lenet.l8,
    ),
    Claim(
        'L9',
        '(implied) LeNet-5 reaches an error of about 1 % on MNIST, less with more or distorted '
        'images.',
        'LeCun 1998, Sec. III-B, Fig. 5 and 6',
        'test error of the modern LeNet-5 with 15,000 training images minus that with 54,000 '
        '(6,000 are for validation); also with 15,000 minus that with 30,000, and without affine '
        'distortions minus that with them',
        POINTS,
        '0.95 % with 60,000, 0.8 % distorted; about 1.7 - 0.95 = 0.75 off the figure',
        value=0.75,
        margin=0.3,
        direction=1,
        config='lenet_training_size.py:small',
    ),
)

ALEXNET = (
    Claim(
        'A0',
        'AlexNet is the convolutional net that won ILSVRC 2012.',
        'Krizhevsky 2012, Sec. 6, Table 2',
        'top-5 error of the second-best entry minus that of the winner; cited, out of reach here',
        POINTS,
        '26.2 - 15.3 = 10.9',
        compute=alexnet.a0,
    ),
    Claim(
        'A1',
        'ReLU instead of tanh is six times faster while the accuracy stays.',
        'Krizhevsky 2012, Sec. 3.1, Fig. 1',
        "epochs to 25 % training error with tanh over those with ReLU: four layers, He's initial "
        'weights, CIFAR-10, no regularisation, the fastest learning rate of each; also 50, 40, 30 '
        "and 10 %, and cuda-convnet's initial weights",
        'times',
        '6 times',
        value=6.0,
        margin=1.25,
        direction=1,
        config='ablate_activation.py:small',
        correction='Measured as training error alone, on one net of four layers: the paper does '
        'not say that accuracy stays, and says that the size varies with the net.',
    ),
    Claim(
        'A2a',
        'Dropout works against overfitting.',
        'Krizhevsky 2012, Sec. 4.2',
        'gap of test and training error without dropout minus that with 0.5, small AlexNet on '
        'CIFAR-10; also test errors, and steps to the same training error',
        POINTS,
        'no value: "substantial overfitting" without; about twice the steps with',
        margin=1.0,
        direction=1,
        config='ablate_dropout.py:small',
    ),
    Claim(
        'A2b',
        'Dropout acts in training alone; in testing all neurons are used.',
        'Krizhevsky 2012, Sec. 4.2',
        'units that inference uses; what training multiplies a unit by, in expectation',
        '% of units',
        '100, halved in testing',
        compute=alexnet.a2b,
    ),
    Claim(
        'A3a',
        'Pooling makes the maps smaller.',
        'Krizhevsky 2012, Sec. 3.4',
        'area of the map before a pool over that behind it, the least of all pools',
        'times',
        '4 and more: 55 to 27, 27 to 13, 13 to 6',
        compute=alexnet.a3a,
    ),
    Claim(
        'A3b',
        '(implied) Max pooling (AlexNet) is better than average pooling (LeNet).',
        'LeCun 1998, Sec. II-B; Krizhevsky 2012, Sec. 3.4 and 3.5',
        'test error with average pooling minus that with max pooling, four-layer net on CIFAR-10',
        POINTS,
        'no value',
        margin=0.3,
        direction=1,
        config='ablate_pooling.py:small',
        facts=alexnet.a3b_choices,
    ),
    Claim(
        'A3c',
        "Overlap: LeNet's stride is smaller than its window, so it does not overlap.",
        'Krizhevsky 2012, Sec. 3.4',
        "window minus stride of AlexNet's pools; whether a pixel is read by more than one window",
        'pixels',
        'window 3, stride 2',
        compute=alexnet.a3c,
        correction="Windows overlap where the stride is smaller than the window: AlexNet's (3, 2) "
        "do, LeNet's (2, 2) do not.",
    ),
    Claim(
        'A3d',
        'Overlapping pooling lowers the top-1 and top-5 error.',
        'Krizhevsky 2012, Sec. 3.4',
        'test error with max pooling 2x2/2 minus that with 3x3/2, maps of the same size, '
        'four-layer net on CIFAR-10; also top-5 errors, and the gap of test and training error',
        POINTS,
        '0.4 top-1, 0.3 top-5 (ImageNet)',
        value=0.4,
        margin=0.3,
        direction=1,
        config='ablate_pooling.py:small',
    ),
    Claim(
        'A4a',
        'LRN is lateral inhibition: a strong unit suppresses its neighbours.',
        'Krizhevsky 2012, Sec. 3.3',
        'channels whose normalised response falls when one channel rises: signs of the Jacobian',
        'channels',
        'n = 5: two on each side',
        compute=alexnet.a4a,
    ),
    Claim(
        'A4b',
        'LRN makes the net converge faster.',
        'Krizhevsky 2012, Sec. 3.3; Simonyan 2014, Table 3',
        'steps to 40 % training error without LRN over those with it, four-layer net on CIFAR-10, '
        'LRN toggled alone; also test errors',
        'times',
        'no value: it "aids generalization", 1.4 points top-1; VGG: 29.6 without, 29.7 with',
        margin=1.25,
        direction=1,
        config='ablate_normalization.py:small',
        correction='The paper says that LRN aids generalisation, not speed; VGG found no gain.',
    ),
    Claim(
        'A4c',
        'Today batch norm is used instead of LRN.',
        'Ioffe 2015, Sec. 4.2.1, Fig. 1',
        'test error with LRN minus that with batch norm, four-layer net on CIFAR-10, over a grid '
        "of learning rates; also none and both, and the paper's MNIST net (batchnorm_mnist.py)",
        POINTS,
        'no value: LRN "not necessary"; 5 to 30 times higher learning rates',
        margin=0.5,
        direction=1,
        config='ablate_normalization.py:small',
    ),
    Claim(
        'A5a',
        'Augmentation prevents overfitting.',
        'Krizhevsky 2012, Sec. 4.1',
        'gap of test and training error without augmentation minus that with crops and mirror '
        'images, four-layer net on CIFAR-10; also each alone, PCA colour, and test errors',
        POINTS,
        'no value; cuda-convnet: 19 to 14.2 % test error; PCA colour over 1 point',
        margin=1.0,
        direction=1,
        config='ablate_augmentation.py:small',
    ),
    Claim(
        'A5b',
        'The net is trained on mirror images and on crops of 227 from a larger image.',
        'Krizhevsky 2012, Sec. 4.1',
        'different crops of 224 from 256, mirror images too',
        'views',
        '2048 in training, 10 in testing (1.5 points top-1 less than one)',
        compute=alexnet.a5b,
        correction='The paper crops 224 of 256. It adds PCA colour, and averages ten crops in '
        'testing.',
    ),
    Claim(
        'A6',
        'The net is two parallel columns on two GPUs.',
        'Krizhevsky 2012, Sec. 3.2 and 3.5, Fig. 2 and 3',
        'multiply-adds that two groups save; two separate shards against a convolution in 2 groups',
        '% of multiply-adds',
        '1.7 points top-1 better than one column of half the width',
        margin=0.5,
        config='ablate_groups.py:small',
        compute=alexnet.a6,
    ),
    Claim(
        'A7',
        'An input of 227 is right, 224 is wrong.',
        'Krizhevsky 2012, Sec. 3.5; the code of cuda-convnet',
        "side of conv1's map by each rule of rounding and padding",
        'pixels',
        'input 224, maps of 55',
        compute=alexnet.a7,
        correction='Half true: 224 gives 55 too where the last window may run over the edge, as in '
        "the author's code, or with padding 2. Without either it gives 54.",
    ),
    Claim(
        'A8',
        'C1 to F8: 96 maps of 55 pooled to 27, then LRN; 256 of 27 to 13; 384; 384; 256 of 13 to '
        '6; 4096, 4096, 1000.',
        'Krizhevsky 2012, Sec. 3.5, Fig. 2',
        'order, shape and parameters of every layer',
        'parameters',
        '60 million',
        compute=alexnet.a8,
        correction='The shapes are right. In C1 and C2 LRN comes before the pool; pool and then '
        "LRN is Caffe's copy. F6 and F7 have dropout.",
    ),
)

VGG = (
    Claim(
        'V1a',
        'Stacked 3x3 convolutions have the receptive field of one large kernel: five see 11x11.',
        'Simonyan 2014, Sec. 2.3',
        'side of the square where the gradient of a unit is not zero, five 3x3',
        'pixels',
        'two: 5, three: 7',
        compute=vgg.v1a,
    ),
    Claim(
        'V1b',
        'Five 3x3 have fewer weights than one 11x11 if and only if N < 3.6 D.',
        'Simonyan 2014, Sec. 2.3',
        'the largest N / D (channels out, in) at which the stack has fewer weights',
        'N / D',
        'three 3x3: 27 C^2, one 7x7: 49 C^2',
        compute=vgg.v1b,
        correction='N < 28/9 D = 3.11 D: 121 D N > 9 D N + 36 N^2.',
    ),
    Claim(
        'V1c',
        'Small filters are better: a pair of 3x3 has a lower error than one 5x5.',
        'Simonyan 2014, Sec. 4.1',
        'test error with 5x5 minus that with pairs of 3x3, VGG for 32x32 on CIFAR-10, at equal '
        'width; also at equal parameters',
        POINTS,
        '7 (top-1, ImageNet)',
        value=7.0,
        margin=0.5,
        direction=1,
        config='ablate_kernel.py:small',
        facts=vgg.v1c_weights,
    ),
    Claim(
        'V2',
        'Stacked small filters have more non-linearity, which lowers the error.',
        'Simonyan 2014, Sec. 2.3, Table 3',
        'test error without the inner ReLU of the pairs minus that with it, CIFAR-10; also columns '
        'B, C and D',
        POINTS,
        'B 28.7, C 28.1, D 27.0 (top-1)',
        margin=0.5,
        direction=1,
        config='ablate_kernel.py:small',
        facts=vgg.v2_linear,
    ),
    Claim(
        'V3',
        'ReLU solves the vanishing gradient: sigmoid multiplies it by at most 1/4 in each layer, '
        'ReLU has slope 1.',
        'not in Simonyan 2014; He 2015, Sec. 4.1',
        'factor by which a layer multiplies the gradient in an MLP of 30 layers with ReLU and '
        'weights of standard deviation 0.01, at the start',
        'times per layer',
        'no value',
        config='gradient_flow.py:small',
        compute=gradients.v3,
        correction='1/4 bounds one of two factors, the weights are the other: with standard '
        'deviation 0.01 ReLU vanishes too. AlexNet had ReLU before VGG.',
    ),
    Claim(
        'V4',
        'VGG has fully convolutional layers instead of fully connected ones.',
        'Simonyan 2014, Sec. 3.2',
        'parameters of the convolutional head minus those of the fully connected one, and their '
        'scores on the same images',
        'parameters',
        '0: the same net',
        compute=vgg.v4,
        correction='The same function with the same parameters, used in testing alone, on images '
        'larger than 224.',
    ),
    Claim(
        'V5',
        'Dropout regularises.',
        'Simonyan 2014, Sec. 3.1',
        'gap of test and training error without dropout minus that with 0.5, small VGG-11 on '
        'CIFAR-10; also test errors, and steps to the same training error',
        POINTS,
        'no value',
        margin=1.0,
        direction=1,
        config='ablate_dropout.py:small_vgg',
    ),
    Claim(
        'V6',
        '(implied) Depth helps: from column A to E the error falls.',
        'Simonyan 2014, Table 3',
        'test error of VGG-11 minus that of VGG-19, for 32x32 on CIFAR-10, with batch norm; beside '
        'it without, and that of VGG-16: neither decides',
        POINTS,
        '29.6 - 27.3 = 2.3 (top-1)',
        value=2.3,
        margin=0.5,
        direction=1,
        config='ablate_vgg_depth.py:small',
        facts=vgg.v6_sizes,
    ),
)

GOOGLENET = (
    Claim(
        'G1',
        'A block has four parallel branches: 1x1; 1x1 then 3x3; 1x1 then 5x5; 3x3 pooling then '
        '1x1.',
        'Szegedy 2014, Sec. 4, Fig. 2b, Table 1',
        'branches, kernels and channels of the nine blocks; parameters of 3a',
        'parameters',
        '159 K weights in 3a',
        compute=googlenet.g1,
    ),
    Claim(
        'G2',
        '1x1 convolutions reduce the depth alone and keep the other information; this resolves the '
        'bottleneck of cost.',
        'Szegedy 2014, Sec. 4',
        "weights of 3a's 5x5 branch without its reduction over those with it; rank of the "
        'reduction',
        'times',
        'no value',
        margin=0.5,
        config='ablate_bottleneck.py:small',
        compute=googlenet.g2,
        correction='The cost is as said. The information is not kept: fewer channels are a lower '
        'rank; only the spatial grid is kept.',
    ),
    Claim(
        'G3',
        'GoogLeNet has fewer parameters than VGG.',
        'Szegedy 2014; Simonyan 2014, Table 2',
        'parameters of VGG-16 over those of GoogLeNet',
        'times',
        '138 M; "12 times fewer" than AlexNet (8.7 by arithmetic)',
        compute=googlenet.g3,
    ),
    Claim(
        'G4',
        'The net chooses by itself how important each size of filter is.',
        'Szegedy 2014, Sec. 2 and 4: motivation only',
        'validation error with the most important branch of a block zeroed minus that with the '
        'least important, after training on CIFAR-10; also gradients by branch',
        POINTS,
        'no value',
        margin=1.0,
        direction=1,
        config='ablate_branches.py:small',
    ),
    Claim(
        'G5',
        'Concatenating the branches makes the net more non-linear.',
        'not in Szegedy 2014',
        'difference of concat(2x - 3y) from 2 concat(x) - 3 concat(y)',
        'relative difference',
        'no value',
        compute=googlenet.g5,
        correction='Concatenation is linear. The ReLUs behind the added 1x1 convolutions are not.',
    ),
    Claim(
        'G6',
        '(implied) Auxiliary classifiers help.',
        'Szegedy 2014, Sec. 5',
        'test error without auxiliary classifiers minus that with them (0.3), on CIFAR-10',
        POINTS,
        'no value here: no table',
        margin=0.5,
        direction=1,
        config='ablate_auxiliary.py:small',
    ),
    Claim(
        'G7',
        'Average pooling replaces the fully connected layers.',
        'Szegedy 2014, Sec. 5',
        'test error with a fully connected head minus that with a global average, on CIFAR-10',
        POINTS,
        '0.6 (top-1)',
        value=0.6,
        margin=0.3,
        direction=1,
        config='ablate_head.py:small',
        facts=googlenet.g7_heads,
    ),
)

RESNET = (
    Claim(
        'R1',
        'Plain nets degrade: the deeper one has the higher training error.',
        'He 2015, Sec. 1 and 4.2, Fig. 1 and 6',
        'training error of plain-56 minus that of plain-20, CIFAR-10; also test errors',
        POINTS,
        'no value: drawn in Fig. 6',
        margin=0.5,
        direction=1,
        config='ablate_depth.py:small',
        facts=resnet.r2_sizes,
    ),
    Claim(
        'R2',
        'Residual nets get better with depth, at the same parameters as plain ones.',
        'He 2015, Sec. 4.2, Table 6, Fig. 6',
        'test error of ResNet-20 minus that of ResNet-56, CIFAR-10; also training errors',
        POINTS,
        '8.75 - 6.97 = 1.78',
        value=1.78,
        margin=0.5,
        direction=1,
        config='ablate_depth.py:small',
        facts=resnet.r2_sizes,
    ),
    Claim(
        'R3',
        'Degradation is not vanishing gradients: with batch norm their norms stay healthy.',
        'He 2015, Sec. 4.1',
        'the least norm of the gradient of a convolution over that of the last one, plain-56 with '
        'batch norm at the start, noise; below 1/1000 it has vanished; also after training',
        'times',
        'no value: "healthy norms"',
        config='gradient_flow.py:small',
        compute=gradients.r3,
    ),
    Claim(
        'R4',
        'Responses of residual layers are smaller than those of plain ones, and shrink with depth.',
        'He 2015, Sec. 4.2, Fig. 7',
        'standard deviation of the responses of plain-20 over that of ResNet-20, behind batch '
        'norm, mean of the layers, after training; also with 56 layers, and ResNet-20 over '
        'ResNet-56',
        'times',
        'no value: drawn in Fig. 7',
        margin=1.1,
        direction=1,
        config='ablate_depth.py:small',
    ),
    Claim(
        'R5',
        'Shortcuts A, B and C differ little, and all are far better than the plain net.',
        'He 2015, Sec. 4.1, Tables 2 and 3',
        'test error of plain-20 minus the worst of ResNet-20 with A, B and C, CIFAR-10; also '
        'between these',
        POINTS,
        '28.54 - 25.03 = 3.51 (34 layers, top-1); A to C 0.84',
        value=3.51,
        margin=0.5,
        direction=1,
        config='ablate_shortcut.py:small',
        facts=resnet.r5_sizes,
    ),
    Claim(
        'R6',
        'The bottleneck saves cost at depth.',
        'He 2015, Sec. 4.1, Fig. 5',
        'weights of two 3x3 on 256 channels over those of a bottleneck on 256',
        'times',
        'the same cost as two 3x3 on 64',
        compute=resnet.r6,
    ),
    Claim(
        'R7',
        'ResNet-110 needs a warm-up: at 0.1 from the start it is slow to begin.',
        'He 2015, Sec. 4.2, footnote 5',
        'steps to 80 % training error at 0.1 over those with a warm-up at 0.01, CIFAR-10',
        'times',
        'about 400 steps of warm-up; without it "still reaches similar accuracy"',
        margin=1.25,
        direction=1,
        config='ablate_warmup.py:small',
    ),
)

SECTIONS = {
    'LeNet-5': LENET,
    'AlexNet': ALEXNET,
    'VGG': VGG,
    'GoogLeNet': GOOGLENET,
    'ResNet': RESNET,
}
# What the notes lack, or misspell, beside the errors in their claims
LACKS = {
    'VGG': 'The notes have no table of the layers: it is in cnns/vgg.py.',
    'GoogLeNet': 'The notes write "GoogleLeNet", have no table of the layers (it is in '
    'cnns/googlenet.py), and name a picture that is lost.',
    'ResNet': "The notes have this heading alone. The claims are the paper's.",
}
CLAIMS = {claim.id: claim for claims in SECTIONS.values() for claim in claims}


def verdict(claim: Claim) -> Verdict:
    """What is known of a claim: computed, of stored rows, or what it takes to know it."""
    found = trained.verdict(claim) if claim.config else None
    facts = f' {claim.facts()}' if claim.facts else ''
    if claim.config and found is None:
        text = f'{trained.beside(claim)} {_pending(claim)}'.strip()
        found = Verdict(NOT_RESOLVED, text)
    if claim.compute is None:
        assert found  # a claim is computed or has a config
        return found._replace(text=found.text + facts)
    computed = claim.compute()
    if not found:
        return computed
    data = found.data or computed.data
    return computed._replace(text=f'{computed.text} {found.text}', data=data, seeds=found.seeds)


def _pending(claim: Claim) -> str:
    """What it takes to train what a claim asks for."""
    if trained.exists(claim.config):
        scale = ' --scale full' if ':full' in claim.config else ''
        command = f'python -m experiments.claims {claim.id} --run{scale}'
        return f'Not run yet: {command} ({claim.config}), {trained.size_of(claim.config)}.'
    return f'Not measured: {claim.config} is not written yet.'
