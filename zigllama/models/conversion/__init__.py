"""From a Hugging Face folder (config.json, *.safetensors, tokenizer files) to a GGUF file.

checkpoint.py, safetensors.py   what is in the folder, checked: it may come from anybody
recipes.py                      how a family's tensors and numbers become GGUF's; the registry by class name
convert.py                      does it, tensor by tensor
vocabulary files                conversion of the tokenizer
llama.py, ...                   a small file per family; each registers the class names it knows
"""
