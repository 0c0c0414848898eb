"""A tiny predictor and joint network of ESPnet behind the interface of exported networks."""

import numpy as np
import torch
from espnet2.asr_transducer.decoder.rnn_decoder import RNNDecoder
from espnet2.asr_transducer.decoder.stateless_decoder import StatelessDecoder
from espnet2.asr_transducer.joint_network import JointNetwork

V, J, H, LAYERS = 12, 8, 10, 2


class TorchNetworks:
    """Predictor and joint network with random weights; encoder frames are drawn elsewhere."""

    def __init__(self, kind, blank=2.5, seed=0, sharp=1.0):
        torch.manual_seed(seed)
        if kind == "lstm":
            self.decoder = RNNDecoder(V, embed_size=6, hidden_size=H, num_layers=LAYERS)
        else:
            self.decoder = StatelessDecoder(V, embed_size=H)
        self.network = JointNetwork(V, 16, H, joint_space_size=J)
        for parameter in (*self.decoder.parameters(), *self.network.parameters()):
            torch.nn.init.normal_(parameter, std=0.7)
        with torch.no_grad():
            self.network.lin_out.weight *= sharp
            self.network.lin_out.bias[0] += blank  # as often as in trained models
        self.decoder.eval()
        self.kind = kind

    def start_predictor(self, utterances):
        shape = (LAYERS, utterances, H)
        return {n: np.zeros(shape, np.float32) for n in ("h", "c")} if self.kind == "lstm" else {}

    @torch.no_grad()
    def predict(self, labels, states):
        x = self.decoder.embed(torch.from_numpy(labels)[:, None])  # (B, 1, E)
        if self.kind == "lstm":
            before = tuple(torch.from_numpy(states[n]) for n in ("h", "c"))
            x, (h, c) = self.decoder.rnn_forward(x, before)  # (B, 1, H)
            states = {"h": h.numpy(), "c": c.numpy()}
        return self.network.lin_dec(x[:, 0]).numpy(), states

    @torch.no_grad()
    def join(self, enc, dec):
        enc, dec = (torch.from_numpy(np.ascontiguousarray(x)) for x in (enc, dec))  # (B, J)
        return self.network(enc, dec, no_projection=True).numpy()  # (B, V)
