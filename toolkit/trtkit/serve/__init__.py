"""A model as a web service: FastAPI in front, requests gathered into batches, runners behind.

body.py      what a client sent: read within a limit, unpacked
kserve.py    the KServe v2 protocol: bytes to tensors and back
plain.py     POST /infer: images and bare tensors
model.py     what the model takes; requests are held against it before they meet others in a batch
batcher.py   the queue, and the threads that run what is in it
app.py       the addresses
folder.py    a model folder: which of its files runs here
server.py    the process: start, stop
"""
