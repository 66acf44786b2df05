"""What the pages share: the only part of the library that imports streamlit."""
