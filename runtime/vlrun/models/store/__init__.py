"""The model store: model folders under names, in the user's data folder."""
