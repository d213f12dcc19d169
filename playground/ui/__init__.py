"""The Streamlit pages and their shared parts. Pages choose and place; numbers and figures come from lower packages."""
