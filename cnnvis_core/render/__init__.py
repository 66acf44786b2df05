"""Results become pictures, charts and files here; nothing in it knows Streamlit or a model."""
