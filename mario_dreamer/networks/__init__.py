"""Networks: tensors in, tensors out, no TensorDict."""

from mario_dreamer.networks.action_heads import (
    BernoulliActionHead,
    BoundedNormalHead,
    MultiOneHotHead,
    OneHotHead,
    TanhNormalHead,
    TruncatedNormalHead,
)
from mario_dreamer.networks.decoder import ConvDecoder, MLPDecoder, StridedConvDecoder
from mario_dreamer.networks.encoder import ConvEncoder, MLPEncoder, MultiEncoder, StridedConvEncoder
from mario_dreamer.networks.heads import BernoulliHead, Head, MSEHead, TwoHotHead
from mario_dreamer.networks.layers import MLP, BlockLinear
from mario_dreamer.networks.norms import LayerNorm, RMSNorm
from mario_dreamer.networks.rssm import RSSM
from mario_dreamer.networks.sequence_models import GRU, BlockGRU

__all__ = [
    "GRU", "MLP", "RSSM", "BernoulliActionHead", "BernoulliHead", "BlockGRU", "BlockLinear",
    "BoundedNormalHead", "ConvDecoder", "ConvEncoder", "Head", "LayerNorm", "MLPDecoder",
    "MLPEncoder", "MSEHead", "MultiEncoder", "MultiOneHotHead", "OneHotHead", "RMSNorm",
    "StridedConvDecoder", "StridedConvEncoder", "TanhNormalHead", "TruncatedNormalHead",
    "TwoHotHead",
]  # fmt: skip
