"""Native CTGAN, CopulaGAN and TVAE: codes, training, sampling."""
