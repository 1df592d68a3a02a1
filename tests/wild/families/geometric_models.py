"""torch_geometric: message passing of every make on random graphs, given as a `Data` object or as tensors."""

from functools import partial

import torch
from building import by_keywords
from torch import nn
from torch_geometric import nn as gnn
from torch_geometric.data import Batch, Data
from torch_geometric.nn.models import dimenet, schnet, visnet

NODES, CHANNELS, EDGES = 20, 16, 60


class OnData(nn.Module):
    """Two layers of message passing, pooling and a classifier, fed with one `Data` (or `Batch`)."""

    def __init__(self, make, *reads):
        super().__init__()
        self.first, self.second, self.reads = make(CHANNELS), make(CHANNELS), reads
        self.norm, self.head = gnn.BatchNorm(CHANNELS), nn.Linear(CHANNELS, 3)

    def forward(self, data):
        more = [getattr(data, name) for name in self.reads]
        x = self.norm(self.first(data.x, data.edge_index, *more)).relu()
        x = nn.functional.dropout(x, 0.2, self.training)
        return self.head(gnn.global_mean_pool(self.second(x, data.edge_index, *more), data.batch))


def graph():
    """One random graph with weights, attributes and relations of edges, and positions of nodes."""
    edges = torch.stack([torch.arange(NODES).repeat(3), torch.randint(NODES, (EDGES,))])
    return Data(
        x=torch.randn(NODES, CHANNELS),
        edge_index=edges,
        edge_weight=torch.rand(EDGES),
        edge_attr=torch.randn(EDGES, CHANNELS),
        edge_type=torch.randint(4, (EDGES,)),
        pos=torch.randn(NODES, 3),
    )


def layer(make, *reads):
    return OnData(make, *reads), lambda: (Batch.from_data_list([graph(), graph()]),)


def mlp(channels=CHANNELS, inputs=CHANNELS):
    return nn.Sequential(nn.Linear(inputs, channels), nn.ReLU(), nn.Linear(channels, channels))


DEGREES = torch.tensor([0, 4, 10, 6])
LAYERS = {
    "GCNConv": (lambda c: gnn.GCNConv(c, c), "edge_weight"),
    "ChebConv": (lambda c: gnn.ChebConv(c, c, K=3), "edge_weight"),
    "SAGEConv": (lambda c: gnn.SAGEConv(c, c, aggr=["mean", "max", "std"]),),
    "SAGEConv median": (lambda c: gnn.SAGEConv(c, c, aggr="median"),),
    "GraphConv": (lambda c: gnn.GraphConv(c, c, aggr="max"), "edge_weight"),
    "GatedGraphConv": (lambda c: gnn.GatedGraphConv(c, 3), "edge_weight"),
    "ResGatedGraphConv": (lambda c: gnn.ResGatedGraphConv(c, c),),
    "GATConv": (lambda c: gnn.GATConv(c, c // 4, heads=4, dropout=0.2),),
    "GATv2Conv": (lambda c: gnn.GATv2Conv(c, c // 4, heads=4, dropout=0.2, edge_dim=c), "edge_attr"),
    "TransformerConv": (lambda c: gnn.TransformerConv(c, c // 4, heads=4, dropout=0.2, edge_dim=c), "edge_attr"),
    "SuperGATConv": (lambda c: gnn.SuperGATConv(c, c // 4, heads=4),),
    "GINConv": (lambda c: gnn.GINConv(mlp(), train_eps=True),),
    "GINEConv": (lambda c: gnn.GINEConv(mlp(), train_eps=True), "edge_attr"),
    "PNAConv": (lambda c: gnn.PNAConv(c, c, ["mean", "min", "max", "std"], ["identity", "amplification"], DEGREES),),
    "EdgeConv": (lambda c: gnn.EdgeConv(mlp(inputs=2 * CHANNELS)),),
    "RGCNConv": (lambda c: gnn.RGCNConv(c, c, 4, num_bases=2), "edge_type"),
    "RGATConv": (lambda c: gnn.RGATConv(c, c, 4), "edge_type"),
    "ARMAConv": (lambda c: gnn.ARMAConv(c, c, num_stacks=2, num_layers=2, dropout=0.2), "edge_weight"),
    "TAGConv": (lambda c: gnn.TAGConv(c, c), "edge_weight"),
    "GENConv": (lambda c: gnn.GENConv(c, c, learn_t=True, edge_dim=c), "edge_attr"),
    "NNConv": (lambda c: gnn.NNConv(c, c, nn.Linear(c, c * c)), "edge_attr"),
    "CGConv": (lambda c: gnn.CGConv(c, dim=c), "edge_attr"),
    "EGConv": (lambda c: gnn.EGConv(c, c, aggregators=["sum", "symnorm", "max"]),),
    "FiLMConv": (lambda c: gnn.FiLMConv(c, c, 4), "edge_type"),
    "GPSConv": (lambda c: gnn.GPSConv(c, gnn.GINConv(mlp()), heads=4, dropout=0.2), "batch"),
    "AntiSymmetricConv": (lambda c: gnn.AntiSymmetricConv(c, num_iters=2),),
    "LEConv": (lambda c: gnn.LEConv(c, c), "edge_weight"),
    "MFConv": (lambda c: gnn.MFConv(c, c),),
    "HypergraphConv": (lambda c: gnn.HypergraphConv(c, c),),
    "ClusterGCNConv": (lambda c: gnn.ClusterGCNConv(c, c, diag_lambda=0.5),),
}


def model(make, *names, **constants):
    """A whole model of the package, given its tensors by name."""

    def draw():
        data = Batch.from_data_list([graph(), graph()])
        return {name: getattr(data, name) for name in names}

    return by_keywords(make(), draw, **constants)


def radius_graph(pos, r, batch, loop=False, **options):
    """Who is near whom: torch_geometric's own needs a compiled package that no registry has for every PyTorch."""
    near = (torch.cdist(pos.detach(), pos.detach()) < r) & (batch[:, None] == batch)
    return (near if loop else near & ~torch.eye(len(pos), dtype=torch.bool)).nonzero().T


def triplets(edge_index, num_nodes):
    """Pairs of edges k -> j -> i with k != i: torch_geometric's own needs such a package too."""
    row, col = edge_index
    ji, kj = ((row[:, None] == col) & (col[:, None] != row)).nonzero().T
    return col, row, col[ji], row[ji], row[kj], kj, ji


for module in (schnet, dimenet, visnet):
    module.radius_graph = radius_graph
dimenet.triplets = triplets


class Molecule(nn.Module):
    """A model of atoms and positions, with the force as a derivative of the energy or without."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, z, pos, batch):
        return self.model(z, pos, batch)


def molecule(make, atoms=8):
    def batch():
        return (
            torch.randint(1, 9, (2 * atoms,)),
            torch.randn(2 * atoms, 3),
            torch.arange(2).repeat_interleave(atoms),
        )

    return Molecule(make()), batch


class Autoencoder(nn.Module):
    """A variational graph autoencoder: samples in forward, returns its losses."""

    def __init__(self):
        super().__init__()
        self.convolution, self.mean, self.deviation = (gnn.GCNConv(CHANNELS, CHANNELS) for _ in range(3))
        self.model = gnn.VGAE(self._encode)

    def _encode(self, data):
        x = self.convolution(data.x, data.edge_index).relu()
        return self.mean(x, data.edge_index), self.deviation(x, data.edge_index)

    def forward(self, data):
        z = self.model.encode(data)
        return self.model.recon_loss(z, data.edge_index) + self.model.kl_loss() / NODES


MODELS = {name: partial(layer, *reads) for name, reads in LAYERS.items()}
BASIC = {"in_channels": CHANNELS, "hidden_channels": CHANNELS, "num_layers": 3, "out_channels": 3, "dropout": 0.2}
MODELS |= {
    "GCN": partial(model, lambda: gnn.GCN(**BASIC, norm="batch", jk="cat"), "x", "edge_index"),
    "GraphSAGE": partial(model, lambda: gnn.GraphSAGE(**BASIC, jk="max"), "x", "edge_index"),
    "GIN": partial(model, lambda: gnn.GIN(**BASIC, norm="graph", jk="lstm"), "x", "edge_index"),
    "GAT": partial(model, lambda: gnn.GAT(**BASIC, v2=True, heads=4, norm="layer"), "x", "edge_index"),
    "EdgeCNN": partial(model, lambda: gnn.EdgeCNN(**BASIC), "x", "edge_index"),
    "GraphUNet": partial(model, lambda: gnn.GraphUNet(CHANNELS, CHANNELS, 3, depth=2), "x", "edge_index", "batch"),
    "AttentiveFP": partial(
        model,
        lambda: gnn.AttentiveFP(CHANNELS, CHANNELS, 3, CHANNELS, num_layers=2, num_timesteps=2, dropout=0.2),
        *("x", "edge_index", "edge_attr", "batch"),
    ),
    "SGFormer": partial(model, lambda: gnn.SGFormer(CHANNELS, CHANNELS, 3), "x", "edge_index", "batch"),
    "Polynormer": partial(model, lambda: gnn.Polynormer(CHANNELS, CHANNELS, 3), "x", "edge_index", "batch"),
    "PMLP": partial(model, lambda: gnn.PMLP(CHANNELS, CHANNELS, 3, 3), "x", "edge_index"),
    "LINKX": partial(model, lambda: gnn.LINKX(2 * NODES, CHANNELS, CHANNELS, 3, 2), "x", "edge_index"),
    "SchNet": partial(molecule, lambda: gnn.SchNet(16, 16, 2, 8, cutoff=5.0)),
    "DimeNet": partial(molecule, lambda: gnn.DimeNet(16, 1, 2, 2, 3, 3, cutoff=5.0)),
    "DimeNetPlusPlus": partial(molecule, lambda: gnn.DimeNetPlusPlus(16, 1, 2, 8, 8, 8, 3, 3, cutoff=5.0)),
    "ViSNet": partial(molecule, lambda: gnn.ViSNet(hidden_channels=16, num_heads=4, num_layers=2, num_rbf=8)),
    "ViSNet forces": partial(
        molecule,
        lambda: gnn.ViSNet(hidden_channels=16, num_heads=4, num_layers=2, num_rbf=8, derivative=True),
    ),
    "VGAE": lambda: (Autoencoder(), lambda: (graph(),)),
}
