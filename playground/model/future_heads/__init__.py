"""One file for each type of future heads (Gloeckle et al. 2024, 2404.19737, appendix B, and others).

| type          | module of offset 1 | of offset k >= 2                     | reads                                            |
|---------------|--------------------|--------------------------------------|--------------------------------------------------|
| independent   | layer              | layer                                | the trunk's output z                             |
| linear        | d_model x d_model  | d_model x d_model                    | z                                                |
| causal        | layer              | layer                                | output of head k - 1 (head 1 reads z)            |
| anticausal    | layer              | layer                                | output of head k + 1 (head n reads z)            |
| sequential    | layer              | projection, then a layer             | output of head k - 1, and token x_{t+k-1}        |
| hydra         | layer              | gated MLP                            | output of head k - 1, and token x_{t+k-1}        |
| medusa_linear | layer              | d_model x d_model                    | output of head 1                                 |
| medusa_mlp    | layer              | d_model x d_model and SiLU           | output of head 1                                 |

Head k is the future head of offset k; head 1 reads z unless the table says otherwise. "Layer" means a whole transformer layer
with attention; the other modules have no attention heads.

Every module here that defines `FUTURE_HEADS` is a type: a further file is a further type, and no list has to be changed
(docs/guides/add-a-future-head.md). Configurations are read without torch; therefore these files import it only in the functions
that build a module. `base.py` holds what a type is, `matrix.py` a module that several types share.
"""
