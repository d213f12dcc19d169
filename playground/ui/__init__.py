"""The Streamlit pages and what they share. Pages choose and place; numbers and figures come from below."""
