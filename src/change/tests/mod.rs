//! Every format against its dumb twin, over random input. The fixed bytes are in `tests/vectors`.

mod bodies;
mod codec;
mod commits;
mod digests;
mod lineages;
mod positions;
mod schemas;
mod script;
mod values;
